use hyper::Method;

use super::{Operation, Which, operation};

#[test]
fn requests_are_told_apart_by_method_and_target() {
    for (method, target, expected) in [
        (
            Method::PUT,
            "/backups/some/key?x-id=PutObject",
            Operation::Put,
        ),
        (Method::PUT, "/backups/some/key", Operation::Put),
        (Method::PUT, "/backups/some/key?retention", Operation::Other),
        (Method::PUT, "/backups", Operation::Other),
        (
            Method::GET,
            "/backups/some/key?x-id=GetObject",
            Operation::Get,
        ),
        (
            Method::GET,
            "/backups?list-type=2&prefix=a",
            Operation::List,
        ),
        (Method::GET, "/backups/?list-type=2", Operation::List),
        (Method::GET, "/backups?versioning", Operation::Other),
        (Method::HEAD, "/backups/some/key", Operation::Head),
        (
            Method::DELETE,
            "/backups/some/key?x-id=DeleteObject",
            Operation::Delete,
        ),
    ] {
        assert_eq!(operation(&method, target), expected, "{method} {target}");
    }
}

#[test]
fn a_rule_skips_and_counts_only_its_own() {
    let mut which = Which::all(Operation::Put).with("log/").after(1).times(2);
    let taken: Vec<_> = [
        (Operation::Put, "/b/log/1"),
        (Operation::Get, "/b/log/1"),
        (Operation::Put, "/b/data/1"),
        (Operation::Put, "/b/log/2"),
        (Operation::Put, "/b/log/3"),
        (Operation::Put, "/b/log/4"),
    ]
    .into_iter()
    .filter(|(operation, target)| which.takes(*operation, target))
    .collect();
    assert_eq!(
        taken,
        [(Operation::Put, "/b/log/2"), (Operation::Put, "/b/log/3")]
    );
}
