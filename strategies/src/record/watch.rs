//! What the recorded strategy reads of the guest's tables, as its host is watched.
//!
//! So a recording has all that its own strategy reads, and can be replayed on it. And the strategy is told of no frame that the
//! replay's host would not know.

use super::book::Book;
use super::known::{CHUNK, chunk_of};
use arch_i386::addr::{GuestFrame, GuestPhys};
use arch_i386::paging::{Entry, PageFormat};
use framework::host::PagingHost;
use framework::watch::{Watched, Watcher};

/// Records what is read.
pub struct Records<'a, F> {
    book: &'a mut Book<F>,
}

/// A host that is watched.
pub type Watch<'a, F> = Watched<'a, Records<'a, F>>;

/// The same host, with what is read of the guest's memory recorded.
pub fn watch<'a, F: PageFormat>(host: &'a mut dyn PagingHost, book: &'a mut Book<F>) -> Watch<'a, F> {
    Watched { host, watcher: Records { book } }
}

impl<F: PageFormat> Records<'_, F> {
    /// An entry of `size` bytes has been read.
    fn saw(&mut self, host: &mut dyn PagingHost, at: GuestPhys, size: u32, entry: Entry) {
        if size == F::ENTRY_SIZE {
            self.book.saw(host, at, entry);
        } else {
            self.saw_bytes(host, at, size);
        }
    }

    /// Bytes have been read, which may belong to several entries or to a part of one.
    fn saw_bytes(&mut self, host: &mut dyn PagingHost, at: GuestPhys, length: u32) {
        let end = u64::from(at.0) + u64::from(length);
        for start in (u64::from(chunk_of(at).0)..end).step_by(CHUNK) {
            self.book.record_chunk(host, GuestPhys(start as u32));
        }
    }

    /// An entry of `size` bytes has been stored.
    fn stored(&mut self, at: GuestPhys, size: u32, entry: Entry) {
        if size == F::ENTRY_SIZE {
            self.book.stored(at, entry);
        }
    }
}

impl<F: PageFormat> Watcher for Records<'_, F> {
    fn read(&mut self, host: &mut dyn PagingHost, at: GuestPhys, bytes: &[u8]) {
        self.saw_bytes(host, at, bytes.len() as u32);
    }

    fn read_u32(&mut self, host: &mut dyn PagingHost, at: GuestPhys, value: u32) {
        self.saw(host, at, 4, Entry(value.into()));
    }

    fn read_u64(&mut self, host: &mut dyn PagingHost, at: GuestPhys, value: u64) {
        self.saw(host, at, 8, Entry(value));
    }

    fn found(&mut self, page: GuestFrame) {
        self.book.found(page);
    }

    /// The host may have found it for another reason than that the strategy has asked, as it does ahead of a guest.
    fn may_know(&self, page: GuestFrame) -> bool {
        self.book.has_found(page)
    }

    fn wrote_u32(&mut self, at: GuestPhys, value: u32) {
        self.stored(at, 4, Entry(value.into()));
    }

    fn wrote_u64(&mut self, at: GuestPhys, value: u64) {
        self.stored(at, 8, Entry(value));
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::Output;
    use super::*;
    use alloc::vec::Vec;
    use arch_i386::paging::{Pae, TwoLevel};
    use framework::trace::{Header, Operation};
    use sim::SimHost;
    use sim::trace::Reader;

    /// What is recorded as stored by the guest while `read` reads through a watched host.
    fn writes<F: PageFormat>(mut host: SimHost, read: impl FnOnce(&mut Watch<'_, F>)) -> Vec<(u64, u64)> {
        let mut book = Book::<F>::new(Output::new().unwrap(), Book::<F>::stacks().unwrap());
        let levels = F::PAGING.levels().into();
        book.begin(&mut host, &Header::new(levels, 4, 7, 1, 0xffc0_0000).unwrap()).unwrap();
        read(&mut watch(&mut host, &mut book));
        book.finish(&mut host);
        let recording = host.take_recording();
        let write = |operation| match operation {
            Operation::Write { at, value } => (at, value),
            other => panic!("{other}"),
        };
        Reader::new(&recording[..]).unwrap().map(|operation| write(operation.unwrap())).collect()
    }

    #[test]
    fn what_is_read_is_recorded_once_until_it_changes() {
        let mut host = SimHost::new(4);
        host.write_u32(GuestPhys(0x1008), 0x2067).unwrap();
        let writes = writes::<TwoLevel>(host, |watch| {
            for _ in 0..2 {
                assert_eq!(watch.read_u32(GuestPhys(0x1008)), Ok(0x2067));
                assert_eq!(watch.read_u32(GuestPhys(0x100c)), Ok(0));
            }
            watch.host.write_u32(GuestPhys(0x100c), 0x3067).unwrap();
            assert_eq!(watch.read_u32(GuestPhys(0x100c)), Ok(0x3067));
        });
        assert_eq!(writes, [(0x1008, 0x2067), (0x100c, 0x3067)]);
    }

    #[test]
    fn what_the_strategy_stores_is_no_store_of_the_guests() {
        let mut host = SimHost::new(4);
        host.write_u64(GuestPhys(0x1008), 0x2007).unwrap();
        let writes = writes::<Pae>(host, |watch| {
            watch.read_u64(GuestPhys(0x1008)).unwrap();
            watch.write_u64(GuestPhys(0x1008), 0x2067).unwrap();
            watch.read_u64(GuestPhys(0x1008)).unwrap();
        });
        assert_eq!(writes, [(0x1008, 0x2007)]);
    }

    #[test]
    fn entries_are_recorded_whole_however_they_are_read() {
        let both = [(0x1038, 0x3027), (0x1040, 0x2027)];
        let host = || {
            let mut host = SimHost::new(4);
            for (at, entry) in both {
                host.write_u64(GuestPhys(at as u32), entry).unwrap();
            }
            host
        };
        // Half of an entry; bytes of two; an entry of a page directory that lies where it should not.
        assert_eq!(writes::<Pae>(host(), |watch| _ = watch.read_u32(GuestPhys(0x103c))), both[..1]);
        assert_eq!(writes::<Pae>(host(), |watch| _ = watch.read(GuestPhys(0x103e), &mut [0; 4])), both);
        assert_eq!(writes::<Pae>(host(), |watch| _ = watch.read_u64(GuestPhys(0x103c))), both);
        // Nothing is there.
        assert_eq!(writes::<Pae>(host(), |watch| _ = watch.read_u64(GuestPhys(0x4000))), []);
    }
}
