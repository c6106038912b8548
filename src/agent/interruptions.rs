//! Looks whether the cloud takes this machine away: a spot instance every 5 s, as EC2 advises; what is planned
//! for the machine itself every 5 minutes. Best effort: who hears nothing is ended without a word.

use std::time::Duration;

use tokio::sync::mpsc;
use tracing::warn;

use crate::agent::domain::interruption;
use crate::agent::domain::interruption::Interruption;
use crate::agent::metadata::Metadata;
use crate::runtime::clock;

/// Two minutes are all there are (EC2 user guide, "Spot Instance interruption notices").
const SPOT_EVERY: Duration = Duration::from_secs(5);

/// One look at what is planned in so many looks: that is days ahead.
const MAINTENANCE_EVERY: u32 = 60;

/// Begins to look; what is found comes once.
pub(crate) fn watch() -> mpsc::Receiver<Interruption> {
    let (found, receiver) = mpsc::channel(1);
    tokio::spawn(look_until_found(Metadata::HERE, found));
    receiver
}

async fn look_until_found(service: Metadata, found: mpsc::Sender<Interruption>) {
    let mut every = tokio::time::interval(SPOT_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_spot = None;
    for look in 0_u32.. {
        tokio::select! {
            _ = every.tick() => {}
            () = found.closed() => return,
        }
        let with_maintenance = look.is_multiple_of(MAINTENANCE_EVERY);
        let looked =
            tokio::task::spawn_blocking(move || look_once(service, is_spot, with_maintenance));
        match looked.await {
            Ok(Ok((known, Some(interruption)))) => {
                is_spot = Some(known);
                let _the_agent_has_ended = found.send(interruption).await;
                // A retirement in days does not keep spot from being wanted back in minutes.
                if known {
                    continue;
                }
            }
            Ok(Ok((known, None))) => is_spot = Some(known),
            Ok(Err(why)) if with_maintenance => {
                warn!("cannot ask whether this machine will be taken away: {why:#}");
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Whether this is a spot instance, and what is planned for it.
fn look_once(
    service: Metadata,
    is_spot: Option<bool>,
    with_maintenance: bool,
) -> anyhow::Result<(bool, Option<Interruption>)> {
    let is_spot = match is_spot {
        Some(known) => known,
        None => service.get("instance-life-cycle")?.as_deref() == Some("spot"),
    };
    if is_spot && let Some(answer) = service.get("spot/instance-action")? {
        return Ok((is_spot, Some(interruption::of_spot(&answer, clock::now()))));
    }
    if with_maintenance && let Some(answer) = service.get("events/maintenance/scheduled")? {
        return Ok((is_spot, interruption::of_maintenance(&answer)));
    }
    Ok((is_spot, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::io::Write;
    use std::net::TcpListener;

    /// A service with these paths and their answers, until it was asked so often.
    fn service(tree: &'static [(&'static str, &'static str)], requests: usize) -> Metadata {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
        let address = listener.local_addr().expect("it has an address");
        std::thread::spawn(move || {
            for _ in 0..requests {
                let (mut stream, _) = listener.accept().expect("somebody asks");
                let mut bytes = [0; 1024];
                let n_bytes = stream.read(&mut bytes).expect("a question");
                let asked = String::from_utf8_lossy(&bytes[..n_bytes]).into_owned();
                let path = asked.split(' ').nth(1).unwrap_or_default().to_owned();
                let path = path.strip_prefix("/latest/meta-data/").unwrap_or(&path);
                let known = tree.iter().find(|(known, _)| *known == path);
                let answer = match (path, known) {
                    ("/latest/api/token", _) => "HTTP/1.1 200 OK\r\n\r\ntoken".to_owned(),
                    (_, Some((_, body))) => format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
                    (_, None) => "HTTP/1.1 404 Not Found\r\n\r\n".to_owned(),
                };
                stream.write_all(answer.as_bytes()).expect("it is listened to");
            }
        });
        Metadata::at(address)
    }

    const ACTION: &str = "{\"action\":\"terminate\",\"time\":\"2030-01-01T00:02:00Z\"}";

    #[test]
    fn a_spot_instance_hears_that_it_is_wanted_back_and_another_does_not_ask() {
        let calm = service(&[("instance-life-cycle", "spot")], 4);
        assert_eq!(look_once(calm, None, false).expect("it answers"), (true, None));
        let spot = service(&[("instance-life-cycle", "spot"), ("spot/instance-action", ACTION)], 4);
        let (is_spot, found) = look_once(spot, None, false).expect("it answers");
        assert!(is_spot && found.is_some_and(|it| it.sentence.contains("2030-01-01T00:02:00")));
        let other =
            service(&[("instance-life-cycle", "on-demand"), ("spot/instance-action", ACTION)], 2);
        assert_eq!(look_once(other, None, false).expect("it answers"), (false, None));
    }

    #[test]
    fn a_retirement_is_heard_of_by_any_instance() {
        const PLANNED: &str = "[{\"NotBefore\":\"21 Jan 2030 09:00:43 GMT\",\
                               \"Code\":\"instance-retirement\",\"State\":\"active\"}]";
        let it = service(&[("events/maintenance/scheduled", PLANNED)], 2);
        let (_, found) = look_once(it, Some(false), true).expect("it answers");
        assert!(found.is_some_and(|it| it.sentence.contains("instance-retirement")));
    }
}
