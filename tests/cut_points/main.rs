//! Every place of a conversation at which a connection can be cut, by name: a real agent, the real
//! master's end with its store, domain and log files, and one cut at exactly that place. However
//! it was cut, the logs are what was printed, and every result counts once.

#[path = "../channel/fake_master.rs"]
#[allow(dead_code, reason = "it plays more in the tests of channel")]
mod fake_master;
#[path = "../channel/house.rs"]
#[allow(dead_code, reason = "it is furnished for the tests of channel")]
mod house;

#[path = "../chaos/dice.rs"]
#[allow(dead_code, reason = "it is thrown in the tests of chaos")]
mod dice;
#[path = "../chaos/printed.rs"]
#[allow(dead_code, reason = "its scripts are for the tests of chaos")]
mod printed;

mod conversation;
mod cut_point;
mod relay;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::conversation::Conversation;
use crate::cut_point::CUT_POINTS;

/// Conversations at the same time.
const AT_ONCE: usize = 8;

#[tokio::test]
async fn wherever_a_connection_is_cut_no_log_is_wrong_and_no_result_counts_twice() {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut conversations = tokio::task::JoinSet::new();
    for (point, _) in CUT_POINTS {
        let at_once = Arc::clone(&at_once);
        conversations.spawn(async move {
            let _place = at_once.acquire().await.expect("it is never closed");
            let conversation = Conversation::begin(point).await;
            conversation.survives().await;
        });
    }
    while let Some(ended) = conversations.join_next().await {
        ended.expect("a conversation survives its cut");
    }
}

#[test]
fn the_docs_have_the_table_of_cut_points() {
    let docs = include_str!("../../docs/reliability.md");
    for (point, sentence) in CUT_POINTS {
        let row = format!("| {point:?} | {sentence} |");
        assert!(docs.contains(&row), "docs/reliability.md lacks the row\n{row}");
    }
}
