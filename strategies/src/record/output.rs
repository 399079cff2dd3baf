//! The recording on its way out: pieces of operations, and a note where some were lost.

use alloc::vec::Vec;
use core::fmt::{Display, Write};
use framework::host::{LAST_WORDS, NoRoom, PagingHost};
use framework::trace::{Header, Operation};

/// Bytes of a piece; no operation is longer than a sixty-fourth of it.
const PIECE: usize = 4096;

/// More than any operation takes.
const LONGEST: usize = PIECE / 64;

const _: () = assert!(LONGEST <= LAST_WORDS, "a note of the loss must fit where nothing else does");

/// Collects operations and hands them to the host a piece at a time.
#[derive(Debug)]
pub struct Output {
    piece: Piece,
    /// Operations in the piece, the note of a loss not among them.
    operations: u64,
    /// Operations that were lost since the last piece that was not.
    lost: u64,
}

#[derive(Debug)]
struct Piece(Vec<u8>);

impl Write for Piece {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Piece {
    fn put(&mut self, part: impl Display) {
        write!(self, "{part}").expect("a vector takes anything");
    }
}

impl Output {
    pub fn new() -> Self {
        Self { piece: Piece(Vec::with_capacity(PIECE)), operations: 0, lost: 0 }
    }

    /// Begins the recording. The header is handed over at once, so that there is something to be read
    /// before the guest runs.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn begin(&mut self, host: &mut dyn PagingHost, header: Header) -> Result<(), NoRoom> {
        self.piece.put(header);
        self.hand_over(host)
    }

    /// Adds an operation.
    ///
    /// # Errors
    /// [`NoRoom`] when others before it have been lost. The operation itself is not.
    pub fn put(&mut self, host: &mut dyn PagingHost, operation: Operation) -> Result<(), NoRoom> {
        let full = self.piece.0.len() + LONGEST > PIECE;
        let result = if full { self.hand_over(host) } else { Ok(()) };
        self.piece.put(operation);
        self.operations += 1;
        result
    }

    fn hand_over(&mut self, host: &mut dyn PagingHost) -> Result<(), NoRoom> {
        let result = host.record(&self.piece.0);
        self.piece.0.clear();
        match result {
            Ok(()) => self.lost = 0,
            Err(NoRoom) => {
                self.lost += self.operations;
                self.piece.put(Operation::Lost(self.lost));
            }
        }
        self.operations = 0;
        result
    }

    /// Hands over what is left.
    pub fn finish(&mut self, host: &mut dyn PagingHost) {
        if self.hand_over(host).is_err() {
            // The note of the loss alone, for which there is always room.
            let _: Result<(), NoRoom> = host.record(&self.piece.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use arch_i386::addr::GuestPhys;
    use benches::sim::SimHost;

    /// Puts that many operations; says how many times others were lost.
    fn put(output: &mut Output, host: &mut SimHost, operations: u32) -> usize {
        let switch = |i| Operation::LoadPageDirectory(GuestPhys(i));
        (0..operations).filter(|i| output.put(host, switch(*i)).is_err()).count()
    }

    /// Operations that are there, and those that are said to be lost.
    fn count(recording: &[u8]) -> (usize, u64) {
        let text = str::from_utf8(recording).unwrap();
        let lost = text.lines().filter_map(|line| line.strip_prefix("lost "));
        let operations = text.lines().filter(|line| line.starts_with("cr3 ")).count();
        (operations, lost.map(|number| number.parse::<u64>().unwrap()).sum())
    }

    #[test]
    fn what_there_is_room_for_comes_out_as_it_went_in() {
        let (mut host, mut output) = (SimHost::new(1), Output::new());
        assert_eq!(put(&mut output, &mut host, 3000), 0);
        output.finish(&mut host);
        let expected: String = (0..3000).map(|i| alloc::format!("cr3 {i:#x}\n")).collect();
        assert_eq!(host.take_recording(), expected.as_bytes());
    }

    #[test]
    fn every_operation_is_there_or_counted_as_lost() {
        let (mut host, mut output) = (SimHost::new(1), Output::new());
        put(&mut output, &mut host, 1000);
        host.limit_recording(Some(3 * PIECE));
        assert!(put(&mut output, &mut host, 5000) > 1);
        host.limit_recording(None);
        assert_eq!(put(&mut output, &mut host, 5000), 0);
        output.finish(&mut host);
        let (there, lost) = count(&host.take_recording());
        assert!(lost > 1000);
        assert_eq!(there as u64 + lost, 11_000);
    }

    #[test]
    fn a_loss_at_the_end_is_said_too() {
        let (mut host, mut output) = (SimHost::new(1), Output::new());
        host.limit_recording(Some(PIECE));
        put(&mut output, &mut host, 5000);
        output.finish(&mut host);
        let (there, lost) = count(&host.take_recording());
        assert!(there > 0 && lost > 0);
        assert_eq!(there as u64 + lost, 5000);
    }
}
