//! TLS: a certificate of a known authority is accepted, any other refused before a token is sent.
//! The authorities are made here, and the test ends TLS before a server that speaks plain HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{ConflictPolicy, ReadRequest, Sink as _, Source as _};
use whimbrel_turso::WhimbrelPlugin;

use crate::harness::{Host, numbered, open_sink, open_source, prepared, read, sorted, todos, write_all};
use crate::sqld::{Sqld, tools};

/// An authority that nobody knows but its file.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    fn write(&self, folder: &Path, name: &str) -> String {
        let path = folder.join(name);
        std::fs::write(&path, self.0.pem()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn server_config(&self, host: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private);
        Arc::new(config.unwrap())
    }
}

/// Ends TLS before `server`; counts octets that arrived in the clear.
fn terminate(config: Arc<ServerConfig>, server: SocketAddr) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let clear = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&clear);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (config, counter) = (Arc::clone(&config), Arc::clone(&counter));
            std::thread::spawn(move || drop(forward(client, config, server, &counter)));
        }
    });
    (format!("libsql://localhost:{port}"), clear)
}

/// One exchange after the other, each with a length, so one thread is enough.
fn forward(
    client: TcpStream,
    config: Arc<ServerConfig>,
    server: SocketAddr,
    counter: &AtomicUsize,
) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    client.set_nodelay(true)?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut client = StreamOwned::new(connection, client);
    let mut upstream = TcpStream::connect(server)?;
    upstream.set_nodelay(true)?;
    loop {
        let request = message(&mut client)?;
        counter.fetch_add(request.len(), Ordering::SeqCst);
        upstream.write_all(&request)?;
        client.write_all(&message(&mut upstream)?)?;
        client.flush()?;
    }
}

fn message(from: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut octet = [0];
    while !message.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut octet)?;
        message.push(octet[0]);
    }
    let head = String::from_utf8_lossy(&message).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let start = message.len();
    message.resize(
        start + length.and_then(|length| length.trim().parse().ok()).unwrap_or(0),
        0,
    );
    from.read_exact(&mut message[start..])?;
    Ok(message)
}

#[test]
fn a_known_authority_is_believed_and_no_other() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with_tokens(&tools);
    let token = server.tokens.as_ref().unwrap().full.clone();
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let ca_file = ours.write(folder.path(), "ours.pem");
    let (url, _) = terminate(ours.server_config("localhost"), server.address());
    let config = json!({ "url": url, "auth_token": token, "tls": { "ca_file": ca_file } });
    let (mut sink, _) = open_sink(&config);
    assert_eq!(sink.check().unwrap(), []);
    prepared(&mut sink, &[todos()]);
    write_all(&mut sink, &todos(), &numbered(0, 1_000), ConflictPolicy::Fail);
    let (found, _) = read(&mut open_source(&config), &ReadRequest::all("todos")).unwrap();
    assert_eq!(sorted(found), sorted(numbered(0, 1_000)));
    assert_eq!(server.hashes(&["todos"])["todos"].record_count, 1_000);

    let (others_name, _) = terminate(ours.server_config("db.example.org"), server.address());
    let their_file = theirs.write(folder.path(), "theirs.pem");
    let (url, clear) = terminate(ours.server_config("localhost"), server.address());
    for config in [
        // Another authority, the public ones, and another host's certificate.
        json!({ "url": url, "auth_token": token, "tls": { "ca_file": their_file } }),
        json!({ "url": url, "auth_token": token }),
        json!({ "url": others_name, "auth_token": token, "tls": { "ca_file": ca_file } }),
    ] {
        let (mut sink, _) = open_sink(&config);
        let codes: Vec<String> = sink
            .check()
            .unwrap()
            .into_iter()
            .map(|finding| finding.code)
            .collect();
        assert_eq!(codes, ["turso.tls"]);
        let findings = open_source(&config).check().unwrap();
        assert_eq!(findings[0].code, "turso.tls");
        assert!(!format!("{findings:?}").contains(&token));
    }
    assert_eq!(
        clear.load(Ordering::SeqCst),
        0,
        "nothing was said to a server that was not believed"
    );
}

#[test]
fn a_file_of_authorities_must_hold_some() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.pem");
    std::fs::write(&path, "no certificate").unwrap();
    let config = json!({ "url": "libsql://localhost:1", "tls": { "ca_file": path.to_str().unwrap() } });
    let error = local::<WhimbrelPlugin>().open_sink(&config, Arc::new(Host::default()), Validation::Full);
    let error = error.map(drop).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.place.as_deref()),
        ("turso.bad_ca_file", Some("config.tls.ca_file"))
    );
}
