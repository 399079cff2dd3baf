//! The recording on its way out: pieces of operations, and a note where some were lost.

use alloc::boxed::Box;
use framework::fallible::{OutOfMemory, boxed_with};
use framework::host::{LAST_WORDS, PagingHost, RecordingFull};
use framework::trace::binary::{Encoder, MAX_RECORD};
use framework::trace::{Header, Operation};

/// Bytes of a piece.
const PIECE: usize = 4096;

/// Bytes of the end mark.
const END_MARK: usize = 1;

const _: () = assert!(
    MAX_RECORD + END_MARK <= LAST_WORDS,
    "a note of the loss and the end mark must fit where nothing else does"
);

/// Collects operations in the binary form and hands them to the host a piece at a time.
#[derive(Debug)]
pub struct Output {
    /// Once the recording has begun.
    encoder: Option<Encoder>,
    /// [`PIECE`] bytes, of which those before `length` are written.
    piece: Box<[u8; PIECE]>,
    length: usize,
    /// Operations in the piece, the note of a loss not among them.
    operations: u32,
    /// Operations that were lost since the last piece that was not.
    lost: u64,
}

impl Output {
    pub fn new() -> Result<Self, OutOfMemory> {
        let piece = boxed_with(|| [0; PIECE])?;
        Ok(Self { encoder: None, piece, length: 0, operations: 0, lost: 0 })
    }

    /// Begins the recording. The header is handed over at once, so that there is something to be read
    /// before the guest runs.
    ///
    /// # Errors
    /// [`RecordingFull`] when the host cannot keep the header.
    pub fn begin(&mut self, host: &mut dyn PagingHost, header: &Header) -> Result<(), RecordingFull> {
        let (encoder, start) = Encoder::new(header);
        host.record(&start)?;
        self.encoder = Some(encoder);
        Ok(())
    }

    /// Adds an operation.
    ///
    /// # Errors
    /// [`RecordingFull`] when others before it have been lost. The operation itself is not.
    #[inline(always)] // as the encoder's
    pub fn put(&mut self, host: &mut dyn PagingHost, operation: Operation) -> Result<(), RecordingFull> {
        // The end mark may be next.
        let full = self.length + MAX_RECORD + END_MARK > PIECE;
        let result = if full { self.hand_over(host) } else { Ok(()) };
        self.encode(&operation);
        self.operations += 1;
        result
    }

    #[inline(always)]
    fn encode(&mut self, operation: &Operation) {
        if let (Some(encoder), Some(place)) = (&mut self.encoder, self.piece[self.length..].first_chunk_mut())
        {
            self.length += encoder.encode_to(operation, place);
        }
    }

    #[cold]
    fn hand_over(&mut self, host: &mut dyn PagingHost) -> Result<(), RecordingFull> {
        let result = host.record(&self.piece[..self.length]);
        self.length = 0;
        match result {
            Ok(()) => self.lost = 0,
            Err(RecordingFull) => {
                self.lost += u64::from(self.operations);
                self.encode(&Operation::Lost(self.lost));
            }
        }
        self.operations = 0;
        result
    }

    /// Hands over what is left of a recording that has begun, and its end mark. (The host may take a recording up only
    /// then, which needs memory, and a guest's end must not.)
    pub fn finish(&mut self, host: &mut dyn PagingHost) {
        if self.encoder.is_none() {
            return;
        }
        self.put_end_mark();
        if self.hand_over(host).is_err() {
            // The note of the loss and the end mark alone, for which there is always room.
            self.put_end_mark();
            let _: Result<(), RecordingFull> = host.record(&self.piece[..self.length]);
        }
    }

    fn put_end_mark(&mut self) {
        let mark = Encoder::end();
        self.piece[self.length..][..mark.len()].copy_from_slice(&mark);
        self.length += mark.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use arch_i386::addr::GuestPhys;
    use sim::SimHost;
    use sim::trace::Reader;

    const fn switch(number: u32) -> Operation {
        Operation::LoadPageDirectory(GuestPhys(number << 12))
    }

    fn begun() -> (SimHost, Output) {
        let (mut host, mut output) = (SimHost::new(1), Output::new().unwrap());
        let header = Header::new(2, 1, 7, 1, 0xffc0_0000).unwrap();
        output.begin(&mut host, &header).unwrap();
        (host, output)
    }

    /// Puts that many operations; returns how many times others were lost.
    fn put(output: &mut Output, host: &mut SimHost, operations: u32) -> usize {
        (0..operations).filter(|i| output.put(host, switch(*i)).is_err()).count()
    }

    fn operations(mut host: SimHost) -> Vec<Operation> {
        let recording = host.take_recording();
        assert_eq!(recording.last(), Some(&Encoder::end()[0]));
        let reader = Reader::new(&recording[..]).unwrap().accept_loss(true);
        reader.map(Result::unwrap).collect()
    }

    /// Operations that are there, and those that are reported as lost.
    fn count(host: SimHost) -> (u64, u64) {
        let count = |(there, lost), operation| match operation {
            Operation::Lost(more) => (there, lost + more),
            _ => (there + 1, lost),
        };
        operations(host).into_iter().fold((0, 0), count)
    }

    #[test]
    fn what_there_is_room_for_comes_out_as_it_went_in() {
        let (mut host, mut output) = begun();
        assert_eq!(put(&mut output, &mut host, 9000), 0);
        output.finish(&mut host);
        assert_eq!(operations(host), (0..9000).map(switch).collect::<Vec<_>>());
    }

    #[test]
    fn every_operation_is_there_or_counted_as_lost() {
        let (mut host, mut output) = begun();
        put(&mut output, &mut host, 1000);
        host.limit_recording(Some(3 * PIECE));
        assert!(put(&mut output, &mut host, 20_000) > 1);
        host.limit_recording(None);
        assert_eq!(put(&mut output, &mut host, 5000), 0);
        output.finish(&mut host);
        let (there, lost) = count(host);
        assert!(lost > 1000);
        assert_eq!(there + lost, 26_000);
    }

    #[test]
    fn a_loss_at_the_end_is_said_too() {
        let (mut host, mut output) = begun();
        host.limit_recording(Some(PIECE));
        put(&mut output, &mut host, 20_000);
        output.finish(&mut host);
        let (there, lost) = count(host);
        assert!(there > 0 && lost > 0);
        assert_eq!(there + lost, 20_000);
    }
}
