//! What a `when` may say, and what it is told when it says something else.

use super::*;

/// As it is understood, in its own language.
#[track_caller]
fn read(text: &str) -> String {
    let When(parts) = When::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    parts.iter().map(Condition::to_string).collect::<Vec<_>>().join(" & ")
}

#[track_caller]
fn refused(text: &str) -> String {
    When::parse(text).err().unwrap_or_else(|| panic!("{text} is taken")).to_string()
}

#[test]
fn and_binds_closer_than_or_and_not_closest() {
    for (text, wanted) in [
        ("header.a", "header.a"),
        ("header.a and header.b", "header.a & header.b"),
        ("header.a or header.b and header.c", "header.a or (header.b and header.c)"),
        ("(header.a or header.b) and header.c", "header.a or header.b & header.c"),
        ("not header.a and header.b", "not header.a & header.b"),
        ("not (header.a and header.b)", "not (header.a and header.b)"),
        ("not header.a == \"x\"", "header.a != \"x\""),
        ("not not header.a", "header.a"),
        ("header.a and (header.b and (header.c))", "header.a & header.b & header.c"),
        ("header.a\n  or\theader.b", "header.a or header.b"),
    ] {
        assert_eq!(read(text), wanted, "{text}");
    }
}

#[test]
fn every_subject_and_operator_is_read() {
    for text in [
        "header.x-a == \"on\"",
        "header.x-a != \"on\"",
        "cookie.a starts_with \"b\"",
        "query.page.size ends_with \"b\"",
        "query[\"a b\"] contains \"b\"",
        "path matches \"/v\\d+/.*\"",
        "header.x-a in [\"a\", \"b\"]",
        "header.x-a == 'say \"on\"'",
        "method in [\"GET\", \"PURGE\"]",
        "host ends_with \".example.com\"",
        "client_ip in [\"10.0.0.0/8\", \"::1/128\"]",
        "path == \"/é\"",
    ] {
        assert_eq!(read(text), text);
    }
    assert_eq!(read("header[\"X-A\"] in 'a'"), "header.x-a in [\"a\"]");
    assert_eq!(read("client_ip != \"10.0.0.1\""), "not client_ip in [\"10.0.0.1/32\"]");
    assert_eq!(read("host == \"Example.COM\""), "host == \"example.com\"");
}

#[test]
fn mistakes_are_told_with_their_column_and_cure() {
    for (text, wanted) in [
        (
            "",
            "at character 1: a condition is missing; write one of header.NAME, query.NAME, cookie.NAME, method, host, \
              path, client_ip",
        ),
        ("headr.a", "at character 1: no subject \"headr.a\"; did you mean header.NAME?"),
        ("cookies.a", "at character 1: no subject \"cookies.a\"; did you mean cookie.NAME?"),
        ("header.a and remote_addr == \"x\"", "at character 14: no subject \"remote_addr\"; did you mean client_ip?"),
        ("header == \"a\"", "at character 1: header of which name; write header.NAME, or header[\"NAME\"]"),
        ("header.a = \"b\"", "at character 10: no operator \"=\"; did you mean ==?"),
        ("header.a start_with \"b\"", "at character 10: no operator \"start_with\"; did you mean starts_with?"),
        ("header.a =~ \"b\"", "at character 10: no operator \"=~\"; did you mean matches?"),
        ("header.a && header.b", "at character 10: no operator \"&&\"; write and, or, not"),
        ("! header.a", "at character 1: no subject \"!\"; write and, or, not"),
        ("header.a AND header.b", "at character 10: no operator \"AND\"; did you mean and?"),
        ("header.a == b", "at character 13: \"b\" stands where a value should; quote it: \"b\""),
        ("header.a ==", "at character 12: what header.a is compared with is missing; add \"...\""),
        (
            "\"b\" == header.a",
            "at character 1: \"b\" stands where a subject should; the subject goes first: \
                                header.x-env == \"blue\"",
        ),
        ("header.a == \"b", "at character 13: a text that is not closed; add \""),
        (
            "header.a == \"b\tc\"",
            "at character 13: a text with a control character; write it as \\xHH in an expression: header.a matches \
             \"a\\x09b\"",
        ),
        ("(header.a", "at character 10: the \"(\" at character 1 is not closed; add \")\""),
        ("header.a)", "at character 9: \")\" without its \"(\"; remove it"),
        (
            "header.a == \"b\" header.c",
            "at character 17: the condition ends here, and the text goes on; join two by \
                                        `and` or `or`",
        ),
        ("method", "at character 1: method is always there; compare it: method == \"...\""),
        ("method == \"get\"", "at character 11: no client sends \"get\": methods are case-sensitive; write \"GET\""),
        ("path == \"a\"", "at character 9: \"a\" does not begin with \"/\"; write the whole path"),
        (
            "client_ip in \"10.0.0.1/8\"",
            "at character 14: \"10.0.0.1/8\" has bits set beyond its prefix; write \
                                          \"10.0.0.0/8\", or \"10.0.0.1\" for that address alone",
        ),
        (
            "client_ip contains \"10\"",
            "at character 20: an address is not compared by contains; write client_ip in \
                                       \"10.0.0.0/8\"",
        ),
        ("client_ip.a", "at character 1: client_ip has no parts; write client_ip alone"),
        (
            "header.a starts_with \"\"",
            "at character 22: an empty text is in every value; write header.a alone for any \
                                       value",
        ),
        ("header.a in [\"b\" \"c\"]", "at character 18: a list goes on; write [\"a\", \"b\"]"),
        ("header.a in 10.0.0.0/8", "at character 21: \"/\" does not belong here; values stand in quotes"),
        ("é == \"a\"", "at character 1: \"é\" does not belong here; values stand in quotes"),
        (
            "path matches \"/(\"",
            "at character 14: \"/(\" is not a regular expression to match by: unclosed group, at \
                                 character 2",
        ),
    ] {
        assert_eq!(refused(text), wanted, "{text}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let tests = |count: usize| vec!["header.a"; count].join(" and ");
    assert!(When::parse(&tests(TESTS_MAX)).is_ok());
    assert!(refused(&tests(TESTS_MAX + 1)).contains("more than 64 tests"));
    let nested = |depth: usize| format!("{}header.a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(When::parse(&nested(NESTED_MAX)).is_ok());
    assert!(refused(&nested(NESTED_MAX + 1)).contains("nested deeper than 16"));
    assert!(refused(&"not ".repeat(1000)).contains("nested deeper than 16"));
    assert!(refused(&" ".repeat(WHEN_BYTES_MAX + 1)).contains("the most is 4096"));
    let listed = |count: usize| format!("header.a in [{}]", vec!["\"x\""; count].join(","));
    assert!(When::parse(&listed(LISTED_MAX)).is_ok());
    assert!(refused(&listed(LISTED_MAX + 1)).contains("more than 256 values"));
}
