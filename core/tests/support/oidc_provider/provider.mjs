// A real OpenID provider for one client, on a port of the test's. Its user is whoever fills in its login page.
// usage: node provider.mjs CACHE PORT REDIRECT_URI POST_LOGOUT_URI
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [cache, port, redirectUri, postLogoutUri] = process.argv.slice(2);
const entry = join(cache, 'node_modules', 'oidc-provider', 'lib', 'index.js');
const { default: Provider } = await import(pathToFileURL(entry));

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'shop',
    client_secret: 's3cret&more',
    redirect_uris: [redirectUri],
    post_logout_redirect_uris: [postLogoutUri],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  }],
  cookies: { keys: ['for tests alone'] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: 4, Grant: 600, IdToken: 600, Interaction: 600, RefreshToken: 600, Session: 600 },
});
provider.listen(Number(port), '127.0.0.1');
