//! An issuer of tokens: keys made on the spot, and a server of HTTP that shows their public halves.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use serde_json::{Value, json};

/// A key that signs tokens.
pub struct SigningKey {
    /// Its name.
    pub kid: String,
    pair: Pair,
    jwk: Value,
}

enum Pair {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new Ed25519 key.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn ed(kid: &str) -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("it was just made");
        let x = encoded(pair.public_key().as_ref());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x });
        Self::of(kid, Pair::Ed(pair), jwk)
    }

    /// A new P-256 key.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn ec(kid: &str) -> Self {
        let (how, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(how, made.as_ref(), &random).expect("just made");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": encoded(x), "y": encoded(y) });
        Self::of(kid, Pair::Ec(pair), jwk)
    }

    /// A new RSA key of 2,048 bits, which Node makes.
    ///
    /// # Panics
    /// When Node is missing.
    pub fn rsa(kid: &str) -> Self {
        const MAKE: &str = "const { generateKeyPairSync } = require('crypto');
            const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
            const key = pair.privateKey.export({ type: 'pkcs8', format: 'der' });
            const jwk = pair.publicKey.export({ format: 'jwk' });
            console.log(JSON.stringify({ key: key.toString('base64'), jwk }));";
        let made = Command::new("node").args(["-e", MAKE]).output();
        let made = made.expect("node is missing: apt-get install nodejs, or cargo xtask test");
        let made: Value = serde_json::from_slice(&made.stdout).expect("a key");
        let key = STANDARD.decode(made["key"].as_str().unwrap_or_default());
        let pair = RsaKeyPair::from_pkcs8(&key.expect("base64")).expect("a key");
        let mut jwk = made["jwk"].clone();
        jwk["kid"] = kid.into();
        jwk["alg"] = "RS256".into();
        Self::of(kid, Pair::Rsa(pair), jwk)
    }

    fn of(kid: &str, pair: Pair, jwk: Value) -> Self {
        Self {
            kid: kid.to_owned(),
            pair,
            jwk,
        }
    }

    /// Its public half.
    pub fn jwk(&self) -> Value {
        self.jwk.clone()
    }

    /// What it signs by.
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ed(_) => "EdDSA",
            Pair::Ec(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        let head = json!({ "alg": self.algorithm(), "typ": "JWT", "kid": self.kid });
        self.signed(&head, claims)
    }

    /// A token with this head, whatever it says.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn signed(&self, head: &Value, claims: &Value) -> String {
        let text = format!(
            "{}.{}",
            encoded(head.to_string().as_bytes()),
            encoded(claims.to_string().as_bytes())
        );
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ed(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
            Pair::Ec(pair) => {
                let signed = pair.sign(&random, text.as_bytes()).expect("it signs");
                signed.as_ref().to_vec()
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
                    .expect("it signs");
                signature
            }
        };
        format!("{text}.{}", encoded(&signature))
    }
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A server that shows a JWK set, until it is dropped.
#[derive(Debug)]
pub struct KeyServer {
    url: String,
    shown: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl KeyServer {
    /// A server that shows the public halves of these keys.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn of(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let mut server = Self {
            url,
            shown: Arc::default(),
            asked: Arc::default(),
            is_over: Arc::default(),
            thread: None,
        };
        server.show(keys);
        let (shown, asked, is_over) = (
            Arc::clone(&server.shown),
            Arc::clone(&server.asked),
            Arc::clone(&server.is_over),
        );
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let (status, body) = match shown.lock().expect("nobody panics").clone() {
                    Some(body) => ("200 OK", body),
                    None => ("500 Internal Server Error", String::new()),
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                asked.fetch_add(1, Ordering::SeqCst);
                // Who asked may be gone.
                let _ = stream.get_mut().write_all(answer.as_bytes());
            }
        });
        server.thread = Some(thread);
        server
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("{}/jwks.json", self.url)
    }

    /// Shows these keys from now on.
    pub fn show(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.say(Some(json!({ "keys": keys }).to_string()));
    }

    /// Shows this from now on; fails where it is none.
    ///
    /// # Panics
    /// Never: nobody panics while holding the lock.
    pub fn say(&self, text: Option<String>) {
        *self.shown.lock().expect("nobody panics") = text;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(self.url.trim_start_matches("http://"));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
