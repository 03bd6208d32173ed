//! The program in a pseudo-terminal of the operating system.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::fd::OwnedFd,
    process::Stdio,
    sync::{Arc, Mutex},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::{Rbee, Running, until};

/// A program with a terminal, and its output so far.
pub struct Terminal {
    pub running: Running,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Rbee {
    /// Starts it in a terminal with this many columns.
    pub fn in_terminal(self, columns: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let stream = || Stdio::from(OwnedFd::from(slave.try_clone().unwrap()));
        let running = self.env("TERM", "xterm").start_on(stream);
        drop(slave);
        let keyboard = File::from(master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut output, seen) = (keyboard.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The read fails when the program has ended and everything is read.
            while let Ok(count) = output.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                seen.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Terminal { running, keyboard, screen }
    }
}

impl Terminal {
    pub fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// The whole output, unchanged.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    pub async fn shows(&self, text: &str) {
        let seen = async || self.seen().contains(text);
        tokio::select! {
            () = until(text, seen) => {}
            () = async { tokio::time::sleep(super::TIMEOUT / 2).await; } => {
                panic!("{text:?} is not shown: {:?}", self.seen())
            }
        }
    }

    /// Waits for its end. Returns the whole output and the exit code.
    pub async fn end(mut self) -> (String, Option<i32>) {
        let status = tokio::time::timeout(super::TIMEOUT, self.running.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it does not end: {:?}", self.seen()));
        // The reader drops its share of the screen when everything is read.
        until("read", async || Arc::strong_count(&self.screen) == 1).await;
        (self.seen(), status.unwrap().code())
    }
}
