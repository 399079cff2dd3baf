//! The host as the recorded strategy sees it: the same, but what it reads of the guest's tables is recorded.
//!
//! So a recording has all that its own strategy looks at, whatever that is, and can be replayed on it.

use super::book::Book;
use super::known::{CHUNK, chunk_of};
use arch_i386::addr::{GuestFrame, GuestPhys, HostFrame};
use arch_i386::paging::{Entry, PageFormat};
use arch_i386::table::TablePage;
use framework::host::{BadAddress, NoRoom, OutOfMemory, PagingHost, PinFailed};

/// A host that is watched.
pub struct Watch<'a, F> {
    pub host: &'a mut dyn PagingHost,
    pub book: &'a mut Book<F>,
}

impl<F: PageFormat> Watch<'_, F> {
    /// An entry of `size` bytes has been read.
    fn saw(&mut self, at: GuestPhys, size: u32, entry: Entry) {
        if size == F::ENTRY_SIZE {
            self.book.saw(self.host, at, entry);
        } else {
            self.saw_bytes(at, size);
        }
    }

    /// Bytes have been read, which may belong to several entries or to a part of one.
    fn saw_bytes(&mut self, at: GuestPhys, length: u32) {
        let end = u64::from(at.0) + u64::from(length);
        for start in (u64::from(chunk_of(at).0)..end).step_by(CHUNK) {
            self.book.record_chunk(self.host, GuestPhys(start as u32));
        }
    }

    /// An entry of `size` bytes has been stored.
    fn stored(&mut self, at: GuestPhys, size: u32, entry: Entry) {
        if size == F::ENTRY_SIZE {
            self.book.stored(at, entry);
        }
    }
}

impl<F: PageFormat> PagingHost for Watch<'_, F> {
    fn page_limit(&self) -> u32 {
        // It is asked for with every entry, and stays the same.
        self.book.pages
    }

    fn no_execute(&self) -> bool {
        self.host.no_execute()
    }

    fn read(&mut self, at: GuestPhys, into: &mut [u8]) -> Result<(), BadAddress> {
        self.host.read(at, into)?;
        self.saw_bytes(at, into.len() as u32);
        Ok(())
    }

    fn write(&mut self, at: GuestPhys, from: &[u8]) -> Result<(), BadAddress> {
        self.host.write(at, from)
    }

    fn read_u32(&mut self, at: GuestPhys) -> Result<u32, BadAddress> {
        let value = self.host.read_u32(at)?;
        self.saw(at, 4, Entry(value.into()));
        Ok(value)
    }

    fn read_u64(&mut self, at: GuestPhys) -> Result<u64, BadAddress> {
        let value = self.host.read_u64(at)?;
        self.saw(at, 8, Entry(value));
        Ok(value)
    }

    fn write_u32(&mut self, at: GuestPhys, value: u32) -> Result<(), BadAddress> {
        self.host.write_u32(at, value)?;
        self.stored(at, 4, Entry(value.into()));
        Ok(())
    }

    fn write_u64(&mut self, at: GuestPhys, value: u64) -> Result<(), BadAddress> {
        self.host.write_u64(at, value)?;
        self.stored(at, 8, Entry(value));
        Ok(())
    }

    fn pin(&mut self, frame: GuestFrame, write: bool) -> Result<HostFrame, PinFailed> {
        self.host.pin(frame, write)
    }

    fn unpin(&mut self, frame: HostFrame) {
        self.host.unpin(frame);
    }

    fn pinned(&self) -> u64 {
        self.host.pinned()
    }

    fn alloc_table(&mut self) -> Result<TablePage, OutOfMemory> {
        self.host.alloc_table()
    }

    fn free_table(&mut self, table: TablePage) {
        self.host.free_table(table);
    }

    fn free_zeroed_table(&mut self, table: TablePage) {
        self.host.free_zeroed_table(table);
    }

    fn reschedule_point(&mut self) -> bool {
        self.host.reschedule_point()
    }

    fn record(&mut self, piece: &[u8]) -> Result<(), NoRoom> {
        self.host.record(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::Output;
    use super::*;
    use alloc::vec::Vec;
    use arch_i386::paging::{Pae, TwoLevel};
    use benches::sim::SimHost;
    use benches::trace::Reader;
    use framework::trace::{Header, Operation};

    /// What is recorded as stored by the guest while `read` reads through a watched host.
    fn writes<F: PageFormat>(mut host: SimHost, read: impl FnOnce(&mut Watch<'_, F>)) -> Vec<(u64, u64)> {
        let mut book = Book::<F>::new(Output::new().unwrap(), Book::<F>::stacks().unwrap());
        let levels = F::PAGING.levels().into();
        book.begin(&mut host, &Header::new(levels, 4, 7, 1, 0xffc0_0000).unwrap()).unwrap();
        read(&mut Watch { host: &mut host, book: &mut book });
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
