//! The public promises at their edges; the table of paths is in the fixtures, the model in the property tests.

use super::*;

fn set(path: &[u8]) -> Result<NormalPath, PathError> {
    let mut normal = NormalPath::new();
    normal.set(path).map(|()| normal)
}

#[test]
fn plain_paths_take_the_fast_way() {
    for path in ["/", "/a", "/a/", "/a-b_c~d.e/F9", "/a:b@c!$&'()*+,=", "/a.b/c..d/e."] {
        assert!(is_normal(path.as_bytes()), "{path}");
        assert_eq!(set(path.as_bytes()).expect("valid").bytes, path.as_bytes());
    }
    for path in ["", "a", "//", "/a//b", "/.", "/..", "/a/.b", "/%41", "/a;b", "/a b", "/\\", "/{", "/\u{e9}"] {
        assert!(!is_normal(path.as_bytes()), "{path}");
    }
}

#[test]
fn a_refused_path_leaves_nothing_behind() {
    let mut normal = set(b"/a;b").expect("valid");
    assert!(normal.ambiguous && normal.readings().count() == 1);
    assert_eq!(normal.set(b"/x/%2f%2e%2e%2f.."), Err(PathError::AboveRoot));
    assert_eq!((normal.bytes.len(), normal.readings().count()), (0, 0));
    assert_eq!(normal.set(b"/%25252e;x"), Err(PathError::TooAmbiguous), "after a first reading was found");
    assert_eq!((normal.bytes.len(), normal.readings().count()), (0, 0));
    normal.set(b"/c").expect("valid");
    assert!(!normal.ambiguous && normal.readings().count() == 0);
}

#[test]
fn at_most_sixteen_readings() {
    let path = b"/a%2fb;c%5cd%3be/f";
    let count = set(path).expect("valid").readings().count();
    assert!((4..=16).contains(&count), "{count}");
    assert_eq!(set(b"/a%2fb;c%5cd%3be/%252e/%252f/%255c;%253bg").err(), Some(PathError::TooAmbiguous));
}

#[test]
fn segments_are_one_for_each_slash() {
    let all = |path: &'static str| segments(path.as_bytes()).collect::<Vec<_>>();
    assert_eq!(all("/"), [b""]);
    assert_eq!(all("/a"), [b"a"]);
    assert_eq!(all("/a/b/"), [&b"a"[..], b"b", b""]);
}

#[test]
fn parameters_are_decoded_once() {
    let mut out = b">".to_vec();
    decode_segment(b"a%2Fb%C3%A9%252e%zz%4", &mut out);
    assert_eq!(out, b">a/b\xc3\xa9%2e%zz%4");
}
