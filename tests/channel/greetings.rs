//! Who may come in, and what callers learn who may not.

use busybee::model::secret::Secret;
use busybee::wire::handshake;
use busybee::wire::handshake::KnownMaster;
use busybee::wire::handshake::SigningKey;
use busybee::wire::handshake::Transcript;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use tokio::io::AsyncWriteExt;

use crate::house::House;
use crate::house::bind;
use crate::house::key;
use crate::house::refusal;
use crate::house::resume;

#[tokio::test]
async fn the_right_password_is_welcomed_and_the_master_proves_that_it_knows_it_too() {
    let house = House::open().await;
    let mut caller = house.dial([1; 32]).await;
    let FromAgent::Hello(hello) = bind("w1", &key(1), &house.password(), [1; 32]) else { panic!() };
    let transcript = Transcript::new(&hello, &[1; 32]);
    caller.say(FromAgent::Hello(hello)).await;
    let Some(FromMaster::Welcome(welcome)) = caller.hear().await else { panic!("no welcome") };
    let known = KnownMaster::Password(house.password());
    let (proto, master_key, proof) = (welcome.proto, &welcome.master_key, &welcome.proof);
    assert!(handshake::master_proof_holds(&known, &transcript, proto, master_key, proof));
    let other = KnownMaster::Password(Secret::new("another".into()));
    assert!(!handshake::master_proof_holds(&other, &transcript, proto, master_key, proof));
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_learn_nothing_from_each_other() {
    let house = House::open().await;
    let wrong = Secret::new("0".repeat(64));
    let mut sentences = Vec::new();
    for name in ["w1", "nobody"] {
        let mut caller = house.dial([1; 32]).await;
        caller.say(bind(name, &key(1), &wrong, [1; 32])).await;
        sentences.push(refusal(caller.hear().await).replace(name, "NAME"));
    }
    assert_eq!(sentences[0], sentences[1]);
    assert_eq!(*house.greetings.lock().unwrap(), 0, "an unproven greeting reaches nobody");
    assert!(house.alarms.lock().unwrap().is_empty(), "and a name alone is no kill switch");
}

#[tokio::test]
async fn a_greeting_that_is_relayed_into_another_session_is_worth_nothing() {
    let house = House::open().await;
    let mut caller = house.dial([2; 32]).await;
    caller.say(bind("w1", &key(1), &house.password(), [1; 32])).await;
    refusal(caller.hear().await);
    assert_eq!(*house.greetings.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_second_key_with_the_right_password_raises_the_alarm_and_ends_the_worker() {
    let house = House::open().await;
    let mut first = house.dial([1; 32]).await;
    first.say(bind("w1", &key(1), &house.password(), [1; 32])).await;
    assert!(matches!(first.hear().await, Some(FromMaster::Welcome(_))));
    // The same key again is a lost answer, no attack.
    let mut again = house.dial([2; 32]).await;
    again.say(bind("w1", &key(1), &house.password(), [2; 32])).await;
    assert!(matches!(again.hear().await, Some(FromMaster::Welcome(_))));
    assert!(house.alarms.lock().unwrap().is_empty());

    let mut thief = house.dial([3; 32]).await;
    thief.say(bind("w1", &key(9), &house.password(), [3; 32])).await;
    refusal(thief.hear().await);
    assert_eq!(house.alarms.lock().unwrap().len(), 1);
    let mut owner = house.dial([4; 32]).await;
    owner.say(resume(&key(1), 2, [4; 32])).await;
    refusal(owner.hear().await);
}

#[tokio::test]
async fn only_the_bound_key_resumes_and_no_earlier_process_of_its_agent_does() {
    let house = House::open().await;
    let mut first = house.dial([1; 32]).await;
    first.say(bind("w1", &key(1), &house.password(), [1; 32])).await;
    assert!(matches!(first.hear().await, Some(FromMaster::Welcome(_))));
    let check = async |key: &SigningKey, epoch, welcome: bool| {
        let mut caller = house.dial([epoch as u8; 32]).await;
        caller.say(resume(key, epoch, [epoch as u8; 32])).await;
        let heard = caller.hear().await;
        assert_eq!(matches!(heard, Some(FromMaster::Welcome(_))), welcome, "{epoch}: {heard:?}");
    };
    check(&key(1), 5, true).await;
    check(&key(1), 4, false).await;
    check(&key(9), 6, false).await;
    check(&key(1), 6, true).await;
}

#[tokio::test]
async fn what_is_no_greeting_is_closed_without_a_word() {
    let house = House::open().await;
    let too_long = u32::MAX.to_be_bytes().to_vec();
    let empty = 0_u32.to_be_bytes().to_vec();
    let garbage = [4_u32.to_be_bytes().to_vec(), vec![0xff; 4]].concat();
    for bytes in [too_long, empty, garbage, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut caller = house.dial([1; 32]).await;
        caller.stream.write_all(&bytes).await.unwrap();
        assert_eq!(caller.hear().await, None, "{bytes:?}");
    }
    let mut early = house.dial([1; 32]).await;
    early.say(FromAgent::Goodbye { sentence: "me first".into() }).await;
    assert_eq!(early.hear().await, None);
    assert_eq!(*house.greetings.lock().unwrap(), 0);
}
