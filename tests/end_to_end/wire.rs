//! A wire between agents and master that can be cut: a TCP relay on loopback.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;

/// Relays connections to the master until it is dropped with the test's process.
pub(crate) struct Wire {
    port: u16,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    /// A wire whose far end is a port on loopback.
    pub(crate) fn to(master_port: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&ends);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // While the master is down, whoever calls is hung up on, as by a real one.
                let Ok(far) = TcpStream::connect(("127.0.0.1", master_port)) else { continue };
                relay(&near, &far, &kept);
            }
        });
        Wire { port, ends }
    }

    /// The near end's port: what agents are told.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection there is; new ones are relayed. Returns how many there were.
    pub(crate) fn cut(&self) -> usize {
        let mut ends = self.ends.lock().expect("no thread panicked with it");
        let cut = ends.drain(..).filter(|end| end.shutdown(Shutdown::Both).is_ok()).count();
        // Cutting one end may have ended the other already.
        cut.div_ceil(2)
    }
}

fn relay(near: &TcpStream, far: &TcpStream, ends: &Mutex<Vec<TcpStream>>) {
    let clone = |end: &TcpStream| end.try_clone().expect("descriptors are not used up");
    ends.lock().expect("no thread panicked with it").extend([clone(near), clone(far)]);
    for (from, to) in [(clone(near), clone(far)), (clone(far), clone(near))] {
        std::thread::spawn(move || pump(from, to));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _no_delay = to.set_nodelay(true);
    let mut buffer = [0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
