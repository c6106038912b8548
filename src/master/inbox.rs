//! How an adapter reaches the domain: it sends an `Event`, and may await the answer.

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::master::domain::decision::Answer;
use crate::master::domain::decision::Refusal;
use crate::master::domain::decision::RefusalKind;
use crate::master::domain::decision::ReplyId;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::Event;
use crate::master::domain::event::Request;
use crate::model::ids::ConnectionId;
use crate::model::ids::WorkerName;

/// Events that wait for the loop, at most; who comes later waits.
pub const INBOX_EVENTS_MAX: usize = 4096;

/// An event on its way, with whom to answer. The loop gives out the `ReplyId`s.
#[derive(Debug)]
pub enum Letter {
    /// Nobody waits for an answer.
    Notice(Event),
    /// A person's request.
    Request(Request, oneshot::Sender<Answer>),
    /// An agent's greeting.
    Hello(Greeting, oneshot::Sender<Answer>),
}

/// An agent's greeting, before it has a `ReplyId`.
#[derive(Debug)]
pub struct Greeting {
    /// Who it is.
    pub worker: WorkerName,
    /// On which connection.
    pub connection: ConnectionId,
    /// What it proved, and what it says of itself.
    pub hello: crate::master::domain::event::AgentHello,
}

impl Greeting {
    /// The event that this is, answered to `reply`.
    pub fn into_event(self, reply: ReplyId) -> Event {
        let Greeting { worker, connection, hello } = self;
        Event::Agent(AgentEvent::Hello { reply, worker, connection, hello })
    }
}

/// A way into the event loop. Cheap to clone; each adapter has one.
#[derive(Clone, Debug)]
pub struct Inbox {
    letters: mpsc::Sender<Letter>,
}

impl Inbox {
    /// An inbox and the end that the event loop reads.
    pub fn new() -> (Inbox, mpsc::Receiver<Letter>) {
        let (letters, receiver) = mpsc::channel(INBOX_EVENTS_MAX);
        (Inbox { letters }, receiver)
    }

    /// Sends an event; waits while the inbox is full. When the loop has ended, nothing happens.
    pub async fn send(&self, event: Event) {
        let _ended = self.letters.send(Letter::Notice(event)).await;
    }

    /// Sends a person's request and awaits the answer, which comes after the commit.
    pub async fn ask(&self, request: Request) -> Answer {
        let (sender, answer) = oneshot::channel();
        let _ended = self.letters.send(Letter::Request(request, sender)).await;
        answer.await.unwrap_or_else(|_| going_down())
    }

    /// Sends an agent's greeting and awaits the answer, which comes after the commit.
    pub async fn greet(&self, greeting: Greeting) -> Answer {
        let (sender, answer) = oneshot::channel();
        let _ended = self.letters.send(Letter::Hello(greeting, sender)).await;
        answer.await.unwrap_or_else(|_| going_down())
    }
}

/// What is answered when the loop ended, or refused to commit, before it could answer.
fn going_down() -> Answer {
    Answer::Refused(Refusal {
        kind: RefusalKind::Unavailable,
        sentence: "the master is stopping or cannot write to its disk; try again in a moment"
            .into(),
    })
}
