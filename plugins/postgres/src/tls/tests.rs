//! TLS with real servers: who is believed, who is not, and what is sent to whom.
//! The authorities are made here.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use whimbrel_plugin_api::serde_json::{Value, json};
use whimbrel_plugin_api::{Error, Result, Services, config};

use crate::client::Client;
use crate::servers::{PORTER, Server, Version};

/// An authority that nobody knows but its file.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key in PEM, for a host or a user.
    fn issue(&self, host: &str, user: &str, is_expired: bool) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![host.to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, user);
        if is_expired {
            parameters.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        (
            parameters.signed_by(&key, &self.0).unwrap().pem(),
            key.serialize_pem(),
        )
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A server with a certificate of `authority`, which lets `porter` in only with one of ours.
fn server(version: Version, authority: &Authority, is_expired: bool) -> Option<Server> {
    let (certificate, key) = authority.issue("localhost", "server", is_expired);
    let ca = authority.0.pem();
    let hba = "hostssl all porter 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 trust\n";
    let files = [
        ("server.crt", certificate.as_str()),
        ("server.key", &key),
        ("ca.crt", &ca),
        ("pg_hba.conf", hba),
    ];
    Server::own_with_files(version, &[("ssl", "on"), ("ssl_ca_file", "ca.crt")], &files)
}

/// Whether the connection is encrypted, `t` or `f`, or the code of the error.
fn encrypted(config: &Value) -> String {
    let outcome: Result<String> = config::parse(config.clone())
        .and_then(|config| Client::new(config, Services::detached()))
        .and_then(|client| {
            client.block_on(async {
                let mut connection = client.connect().await?;
                let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                let encrypted = connection
                    .value(sql)
                    .await?
                    .ok_or_else(|| Error::internal("no row"))?;
                connection.close().await;
                Ok(encrypted)
            })
        });
    outcome.unwrap_or_else(|error| error.code)
}

#[test]
fn a_known_authority_is_believed_for_its_host_and_no_other() {
    for version in Version::ALL {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let Some(server) = server(version, &ours, false) else {
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        let ca_file = write(folder.path(), "ours.pem", &ours.0.pem());
        let other_file = write(folder.path(), "theirs.pem", &theirs.0.pem());
        let port = server.endpoint().port();
        let (localhost, number) = ("localhost", "127.0.0.1");
        for (host, tls, expected) in [
            (localhost, json!({ "ca_file": ca_file }), "t"),
            (
                localhost,
                json!({ "ca_file": ca_file, "mode": "verify-full" }),
                "t",
            ),
            (number, json!({ "ca_file": ca_file }), "postgres.tls_host"),
            (number, json!({ "ca_file": ca_file, "mode": "verify-ca" }), "t"),
            (
                localhost,
                json!({ "mode": "verify-full" }),
                "postgres.tls_authority",
            ),
            (
                localhost,
                json!({ "ca_file": other_file }),
                "postgres.tls_authority",
            ),
            (
                localhost,
                json!({ "ca_file": other_file, "mode": "verify-ca" }),
                "postgres.tls_authority",
            ),
            (number, json!({ "mode": "require" }), "t"),
            (number, json!({ "mode": "prefer" }), "t"),
            (number, json!({ "mode": "disable" }), "f"),
            // On this machine nobody listens in.
            (localhost, json!({}), "f"),
            (number, json!({}), "f"),
        ] {
            let url = format!("postgres://postgres@{host}:{port}/postgres");
            assert_eq!(
                encrypted(&json!({ "url": url, "tls": tls })),
                expected,
                "{host} {tls}"
            );
        }
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=require");
        assert_eq!(encrypted(&json!({ "url": url })), "t");
        assert_eq!(
            encrypted(&json!({ "url": url, "tls": { "mode": "disable" } })),
            "f"
        );
    }
}

#[test]
fn a_certificate_of_ours_opens_what_asks_for_one() {
    for version in Version::ALL {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let Some(server) = server(version, &ours, false) else {
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        let ca_file = write(folder.path(), "ours.pem", &ours.0.pem());
        let pair = |name: &str, authority: &Authority, user: &str| {
            let (certificate, key) = authority.issue("client", user, false);
            let certificate = write(folder.path(), &format!("{name}.crt"), &certificate);
            (certificate, write(folder.path(), &format!("{name}.key"), &key))
        };
        let (certificate, key) = pair("good", &ours, PORTER);
        let (other_certificate, other_key) = pair("other", &ours, "somebody");
        let (foreign_certificate, foreign_key) = pair("foreign", &theirs, PORTER);
        let url = format!(
            "postgres://{PORTER}@localhost:{}/postgres",
            server.endpoint().port()
        );
        for (files, expected) in [
            (Some((&certificate, &key)), "t"),
            (Some((&other_certificate, &other_key)), "postgres.refused_login"),
            (
                Some((&foreign_certificate, &foreign_key)),
                "postgres.tls_certificate",
            ),
            (Some((&certificate, &other_key)), "postgres.tls"),
            (None, "postgres.refused_login"),
        ] {
            let tls = match files {
                Some((certificate, key)) => {
                    json!({ "ca_file": ca_file, "client_cert_file": certificate, "client_key_file": key })
                }
                None => json!({ "ca_file": ca_file }),
            };
            assert_eq!(encrypted(&json!({ "url": url, "tls": tls })), expected, "{tls}");
        }
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let tls = json!({ "ca_file": ca_file, "client_cert_file": certificate, "client_key_file": key });
        assert_eq!(
            encrypted(&json!({ "url": url, "tls": tls })),
            "postgres.key_readable"
        );
    }
}

#[test]
fn servers_without_tls_or_with_an_old_certificate_are_refused() {
    let ours = Authority::new("ours");
    let folder = tempfile::tempdir().unwrap();
    let ca_file = write(folder.path(), "ours.pem", &ours.0.pem());
    if let Some(server) = server(Version::V15, &ours, true) {
        let url = format!(
            "postgres://postgres@localhost:{}/postgres",
            server.endpoint().port()
        );
        assert_eq!(
            encrypted(&json!({ "url": url, "tls": { "ca_file": ca_file } })),
            "postgres.tls_expired"
        );
    }
    for server in crate::servers::servers() {
        let url = server.endpoint().url("postgres");
        for (mode, expected) in [
            ("verify-full", "postgres.tls_refused"),
            ("verify-ca", "postgres.incomplete"),
            ("require", "postgres.tls_refused"),
            ("prefer", "f"),
            ("disable", "f"),
        ] {
            assert_eq!(
                encrypted(&json!({ "url": url, "tls": { "mode": mode } })),
                expected,
                "{mode}"
            );
        }
    }
}

#[test]
fn files_that_cannot_be_used_are_named_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let text = write(folder.path(), "text", "hunter2");
    let missing = folder.path().join("missing");
    for (tls, code, place) in [
        (
            json!({ "ca_file": missing }),
            "postgres.tls_file",
            "config.tls.ca_file",
        ),
        (
            json!({ "ca_file": text }),
            "postgres.tls_file",
            "config.tls.ca_file",
        ),
        (
            json!({ "client_cert_file": text }),
            "postgres.incomplete",
            "config.tls.client_cert_file",
        ),
        (
            json!({ "client_key_file": text }),
            "postgres.incomplete",
            "config.tls.client_key_file",
        ),
        (
            json!({ "client_cert_file": text, "client_key_file": text }),
            "postgres.tls_file",
            "config.tls.client_cert_file",
        ),
    ] {
        let config = config::parse(json!({ "url": "postgres://me@h.example.org/db", "tls": tls })).unwrap();
        let error = Client::new(config, Services::detached()).err().unwrap();
        assert_eq!(
            (error.code.as_str(), error.place.as_deref()),
            (code, Some(place)),
            "{tls}"
        );
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    let config = json!({ "url": "postgres://me@/db?host=/run", "tls": { "mode": "verify-full" } });
    let error = Client::new(config::parse(config).unwrap(), Services::detached())
        .err()
        .unwrap();
    assert_eq!(error.code, "postgres.tls_on_socket");
}
