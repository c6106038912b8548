//! Repositories over http: smart, dumb, and those that want a token.

use busybee::master::change_source::source::CredentialFiles;
use busybee::master::domain::pipeline::Planned;
use busybee::model::attempt::GitCredential;

use crate::house::House;
use crate::house::source;
use crate::house::write_secret;
use crate::http_server::HttpServer;
use crate::http_server::Kind;
use crate::origin::Origin;

const MAIN: &str = "refs/heads/main";
/// `x-access-token:s3cret`
const AUTHORIZATION: &str = "Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0";

async fn check_everything(origin: &Origin, house: &mut House) {
    let first = origin.rev("HEAD");
    let _polling = house.start();
    assert_eq!(house.listing().await, [(MAIN.to_owned(), first.clone())]);
    let pushed = house.push(MAIN, &first).await.unwrap();
    assert!(matches!(pushed.planned, Planned::Pipeline(_)), "{pushed:?}");
    let second = origin.commit("main", "second", &[]);
    crate::origin::git(&origin.bare(), &["update-server-info"]);
    house.poke();
    assert_eq!(house.listing().await, [(MAIN.to_owned(), second.clone())]);
    assert_eq!(house.manual(None).await.unwrap().commit.as_str(), second);
    assert_eq!(house.manual(Some(&first)).await.unwrap().ref_name.as_str(), MAIN);
}

#[tokio::test]
async fn a_smart_server_serves_listings_and_commits() {
    let origin = Origin::new();
    let server = HttpServer::start(origin.folder().to_owned(), Kind::Smart, None).await;
    let mut house = House::new(source(&server.url("origin.git")));
    check_everything(&origin, &mut house).await;
}

#[tokio::test]
async fn a_plain_file_server_does_as_well() {
    let origin = Origin::new();
    crate::origin::git(&origin.bare(), &["update-server-info"]);
    let server = HttpServer::start(origin.folder().to_owned(), Kind::Dumb, None).await;
    let mut house = House::new(source(&server.url("origin.git")));
    check_everything(&origin, &mut house).await;
}

#[tokio::test]
async fn a_private_repository_is_read_with_its_token() {
    let origin = Origin::new();
    let folder = origin.folder().to_owned();
    let server = HttpServer::start(folder, Kind::Smart, Some(AUTHORIZATION)).await;
    let token_file = origin.folder().join("token");
    write_secret(&token_file, "s3cret\n");
    let mut with_token = source(&server.url("origin.git"));
    with_token.credential = CredentialFiles::Token(token_file);
    let mut house = House::new(with_token);
    check_everything(&origin, &mut house).await;
    let GitCredential::Token(token) = house.changes.credential(&"hello".into()).unwrap() else {
        panic!("a worker gets the token");
    };
    assert_eq!(token.reveal(), "s3cret");
}

#[tokio::test]
async fn a_missing_or_wrong_token_is_told_without_showing_it() {
    let origin = Origin::new();
    let folder = origin.folder().to_owned();
    let server = HttpServer::start(folder, Kind::Smart, Some(AUTHORIZATION)).await;
    let url = server.url("origin.git");

    let house = House::new(source(&url));
    let _polling = house.start();
    let sentence = house.trouble().await;
    assert!(sentence.contains("name a token_file"), "{sentence}");

    let token_file = origin.folder().join("token");
    let mut with_token = source(&url);
    with_token.credential = CredentialFiles::Token(token_file.clone());
    let mut house = House::new(with_token);
    let _polling = house.start();
    let sentence = house.trouble().await;
    assert!(sentence.contains("cannot read") && sentence.contains("token"), "{sentence}");

    write_secret(&token_file, "wr0ng");
    let failure = house.push(MAIN, &origin.rev("HEAD")).await.unwrap_err();
    assert!(failure.worth_retrying && failure.sentence.contains("token"), "{failure:?}");
    assert!(!failure.sentence.contains("wr0ng"), "{failure:?}");

    // The file is read each time: no restart is needed.
    write_secret(&token_file, "s3cret");
    house.poke();
    assert_eq!(house.listing().await.len(), 1);
}

#[tokio::test]
async fn a_token_does_not_follow_a_redirect_to_another_host() {
    let origin = Origin::new();
    let folder = origin.folder().to_owned();
    let other = HttpServer::start(folder, Kind::Smart, Some(AUTHORIZATION)).await;
    let elsewhere = Kind::Elsewhere(other.address());
    let first = HttpServer::start(origin.folder().to_owned(), elsewhere, None).await;
    let token_file = origin.folder().join("token");
    write_secret(&token_file, "s3cret");
    let mut with_token = source(&first.url("origin.git"));
    with_token.credential = CredentialFiles::Token(token_file);
    let house = House::new(with_token);
    // The other host asks for it, and does not get it.
    let failure = house.manual(None).await.unwrap_err();
    assert!(failure.sentence.contains("wants a password"), "{failure:?}");
    assert!(!first.seen().is_empty() && !other.seen().is_empty());
    assert!(other.seen().iter().all(Option::is_none), "{:?}", other.seen());
}
