//! Certificates of clients, in Traefik's five modes.

use super::{Authority, Rig, client_with};
use std::fs;

#[test]
fn every_mode_of_client_certificates_lets_in_whom_it_says() {
    let others = Authority::new();
    // Without a certificate, with one of an authority that is not trusted, with one that is.
    for (mode, let_in) in [
        ("NoClientCert", [true, true, true]),
        ("RequestClientCert", [true, true, true]),
        ("RequireAnyClientCert", [false, true, true]),
        ("VerifyClientCertIfGiven", [true, false, true]),
        ("RequireAndVerifyClientCert", [false, false, true]),
    ] {
        let rig = Rig::new();
        rig.caddy("a.test", 1);
        let authorities = rig.dir.path().join("clients.pem");
        fs::write(&authorities, &rig.authority.pem).expect("a file");
        let files = match mode {
            "NoClientCert" | "RequestClientCert" | "RequireAnyClientCert" => String::new(),
            _ => format!("        caFiles: [{}]\n", authorities.display()),
        };
        let options = format!("tls:\n  options:\n    o:\n      clientAuth:\n{files}        clientAuthType: {mode}\n");
        let proxy = rig.start(&options);
        let root = &rig.authority.pem;
        let (stranger, known) = (others.sign("c.test", 2), rig.authority.sign("c.test", 3));
        let clients = [rig.client(), client_with(root, &stranger), client_with(root, &known)];
        let got = clients.map(|client| rig.ask(&proxy, &client).is_some_and(|got| got.status == 200));
        assert_eq!(got, let_in, "{mode}");
        let problems = proxy.admin("/api/problems").json();
        assert_eq!(problems, serde_json::json!([]), "{mode}");
    }
}
