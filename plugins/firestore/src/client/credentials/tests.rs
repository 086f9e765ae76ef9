//! Which credentials are found, in what order, and what is said of those that cannot be used.
//! The metadata server and a token endpoint are small servers of the tests; nothing leaves this machine.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use whimbrel_plugin_api::Services;

use super::*;
use crate::client::Client;

/// A private key that was made for these tests and opens nothing.
const TEST_KEY: &str = include_str!("test_key.b64");

fn service_account() -> Value {
    json!({
        "type": "service_account",
        "project_id": "of-the-key",
        "private_key_id": "1",
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{TEST_KEY}-----END PRIVATE KEY-----\n"),
        "client_email": "copier@of-the-key.iam.gserviceaccount.com",
        "client_id": "1",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
}

fn write(path: &Path, content: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;

    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn config(json: Value) -> FirestoreConfig {
    whimbrel_plugin_api::config::parse(json).unwrap()
}

/// Nothing around: no home, and a metadata server that is not there.
fn nothing() -> Surroundings {
    Surroundings {
        home: None,
        // Nobody can listen at port 0.
        metadata_url: Some("http://127.0.0.1:0".to_owned()),
    }
}

async fn authorization(identity: &Identity) -> String {
    let headers = identity.headers.headers().await.unwrap();
    headers["authorization"].to_str().unwrap().to_owned()
}

/// A server that answers every request with `answer` (or with a project, if that is asked for), or never; its address.
async fn server(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some(body) = answer else {
                kept.push(stream);
                continue;
            };
            let mut request = Vec::new();
            // A body, if there is one, comes after what is looked at.
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            let is_project = String::from_utf8_lossy(&request).contains("/project/project-id ");
            let body = if is_project { "of-the-machine\n" } else { body };
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\nmetadata-flavor: Google\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            // Closed for reading too, it would take back an answer to a request that has not been read to its end.
            kept.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn a_key_file_signs_tokens_for_firestore_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.json");
    write(&path, &service_account().to_string(), 0o600);
    let identity = find_in(&config(json!({ "credentials_file": path })), nothing())
        .await
        .unwrap();
    assert_eq!(identity.project.as_deref(), Some("of-the-key"));

    let authorization = authorization(&identity).await;
    let token = authorization.strip_prefix("Bearer ").unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["iss"], "copier@of-the-key.iam.gserviceaccount.com");
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/datastore");
}

#[tokio::test]
async fn a_client_of_the_service_is_made_without_asking_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.json");
    write(&path, &service_account().to_string(), 0o600);
    let config = config(json!({ "credentials_file": path }));
    let client = Client::open(&config, &Services::detached()).await.unwrap();
    assert_eq!(
        client.root().database(),
        "projects/of-the-key/databases/(default)"
    );
    assert!(!client.is_emulator());
}

#[tokio::test]
async fn a_file_that_others_may_read_is_refused_with_what_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.json");
    for mode in [0o640, 0o604, 0o660, 0o622, 0o777] {
        write(&path, &service_account().to_string(), mode);
        let error = find_in(&config(json!({ "credentials_file": path })), nothing())
            .await
            .unwrap_err();
        assert_eq!(error.code, "firestore.loose_key_file", "{mode:o}");
        assert_eq!(
            error.help.unwrap(),
            format!("take their rights away: `chmod 600 {}`", path.display())
        );
        assert_eq!(error.place.as_deref(), Some("config.credentials_file"));
    }
}

#[tokio::test]
async fn a_federation_holds_no_secret_and_may_be_read_by_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("federation.json");
    let subject = folder.path().join("subject");
    write(&subject, "of-the-pod", 0o644);
    let url = server(Some(
        r#"{"access_token":"exchanged","issued_token_type":"x","token_type":"Bearer","expires_in":3600}"#,
    ))
    .await;
    let federation = json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": url,
        "credential_source": { "file": subject },
    });
    write(&path, &federation.to_string(), 0o644);
    let config = config(json!({ "credentials_file": path }));
    let identity = find_in(&config, nothing()).await.unwrap();
    assert_eq!(authorization(&identity).await, "Bearer exchanged");
    assert_eq!(identity.project, None);

    // Without what it exchanges there is no token, which will not change by itself.
    fs::remove_file(subject).unwrap();
    assert_eq!(
        find_in(&config, nothing()).await.unwrap_err().code,
        "firestore.no_token"
    );
}

#[tokio::test]
async fn a_file_that_is_no_key_is_named_and_never_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.json");
    let mut without_email = service_account();
    without_email.as_object_mut().unwrap().remove("client_email");
    let mut with_bad_key = service_account();
    with_bad_key["private_key"] = json!("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
    let mut with_number = service_account();
    with_number["private_key_id"] = json!(47_110_815);
    for content in [
        String::new(),
        "secret".to_owned(),
        "[]".to_owned(),
        json!({ "installed": { "client_secret": "secret" } }).to_string(),
        json!({ "type": "secret" }).to_string(),
        json!({ "type": "service_account", "private_key": ["secret"] }).to_string(),
        without_email.to_string(),
        with_bad_key.to_string(),
        with_number.to_string(),
    ] {
        write(&path, &content, 0o600);
        let error = find_in(&config(json!({ "credentials_file": path })), nothing())
            .await
            .unwrap_err();
        assert_eq!(error.code, "firestore.bad_key_file", "{content}");
        assert!(error.message.contains(path.to_str().unwrap()));
        let shown = serde_json::to_string(&error).unwrap();
        for secret in ["secret", "c2VjcmV0", "47110815"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    let error = find_in(&config(json!({ "credentials_file": folder.path() })), nothing())
        .await
        .unwrap_err();
    assert_eq!(error.code, "firestore.bad_key_file");
    let gone = config(json!({ "credentials_file": folder.path().join("gone.json") }));
    let error = find_in(&gone, nothing()).await.unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.kind),
        ("firestore.no_key_file", ErrorKind::Config)
    );
}

#[tokio::test]
async fn the_file_of_gcloud_is_used_if_nothing_else_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder
        .path()
        .join(".config/gcloud/application_default_credentials.json");
    write(&path, &service_account().to_string(), 0o600);
    let surroundings = || Surroundings {
        home: Some(folder.path().to_owned()),
        ..nothing()
    };
    let identity = find_in(&config(json!({})), surroundings()).await.unwrap();
    assert!(authorization(&identity).await.starts_with("Bearer ey"));

    write(&path, &service_account().to_string(), 0o644);
    let error = find_in(&config(json!({})), surroundings()).await.unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.place),
        ("firestore.loose_key_file", None)
    );
}

#[tokio::test]
async fn the_metadata_server_is_asked_last() {
    let url = server(Some(
        r#"{"access_token":"lent","expires_in":3600,"token_type":"Bearer"}"#,
    ))
    .await;
    let surroundings = || Surroundings {
        metadata_url: Some(url.clone()),
        ..nothing()
    };
    let identity = find_in(&config(json!({})), surroundings()).await.unwrap();
    assert_eq!(authorization(&identity).await, "Bearer lent");
    assert_eq!(identity.project.as_deref(), Some("of-the-machine"));
    // Who has a project is not told another.
    let named = config(json!({ "project": "named" }));
    assert_eq!(find_in(&named, surroundings()).await.unwrap().project, None);
}

#[tokio::test]
async fn without_any_credentials_all_ways_to_give_them_are_named() {
    // Nobody listens, or somebody who never answers.
    for metadata_url in ["http://127.0.0.1:0".to_owned(), server(None).await] {
        let surroundings = Surroundings {
            metadata_url: Some(metadata_url),
            ..nothing()
        };
        let error = find_in(&config(json!({ "connect_timeout_ms": 100 })), surroundings)
            .await
            .unwrap_err();
        assert_eq!(error.code, "firestore.no_credentials");
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
        let help = error.help.unwrap();
        for way in [
            "credentials_file",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "gcloud auth application-default login",
            "machine of Google Cloud",
            "FIRESTORE_EMULATOR_HOST",
        ] {
            assert!(help.contains(way), "{way}");
        }
    }
}

#[tokio::test]
async fn an_emulator_needs_no_credentials() {
    let config = config(json!({ "host": "127.0.0.1:1", "credentials_file": "/nowhere" }));
    let identity = find_in(&config, nothing()).await.unwrap();
    assert!(identity.headers.headers().await.unwrap().is_empty());
}
