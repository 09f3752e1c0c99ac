//! The demo works as the README describes.

use std::process::Command;

#[test]
fn the_demo_issues_the_examples_and_exits() {
    let demo = Command::new(env!("CARGO_BIN_EXE_demo")).output().unwrap();
    let shown = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{shown}{}", String::from_utf8_lossy(&demo.stderr));
    let row = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    for name in ["issuer-acme ", "cert-simple ", "cert-csr ", "cert-wildcard "] {
        assert!(row(name).contains(" Ready "), "{name}is not Ready:\n{shown}");
    }
    for part in ["NAME          SERVER", "COMMON NAME", "DNS names  cert1.my-company.test"] {
        assert!(shown.contains(part), "no {part:?} in:\n{shown}");
    }
}
