//! Rings against a model of an honest driver, and against hostile ones.

use crate::support::driver::{Driver, INDIRECT, NEXT, WRITE};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use userland_launcher::guest_memory::{GuestMemory, OutOfBounds};
use userland_launcher::virtqueue::{Buffers, RingError, Virtqueue, ring_bytes};

/// Guest memory of these tests: rings from `RING`, buffers from `BUFFERS` to the end.
const LEN: usize = 64 << 10;
const RING: u64 = 0x2000;
const BUFFERS: u64 = 0x5000;

fn memory() -> GuestMemory {
    GuestMemory::map(LEN).unwrap()
}

fn driver(memory: &GuestMemory, size: u16) -> Driver<'_> {
    Driver { memory, start: RING, size }
}

fn queue(memory: &GuestMemory, size: u16) -> Virtqueue<'_> {
    Virtqueue::new(memory, RING as u32, size).unwrap()
}

fn read_all(buffers: &mut Buffers<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    buffers.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_ring_of_256_takes_three_pages_as_lguest_has_it() {
    assert_eq!(ring_bytes(256).div_ceil(4096), 3);
    assert_eq!(ring_bytes(4), 4096 + 4 + 32 + 2);
}

#[test]
fn a_ring_must_lie_in_memory() {
    let memory = memory();
    let last = LEN as u32 - 8192;
    assert!(Virtqueue::new(&memory, last, 256).is_err());
    assert!(Virtqueue::new(&memory, last, 16).is_ok());
    assert!(Virtqueue::new(&memory, 0xffff_f000, 16).is_err());
}

#[test]
fn each_broken_rule_is_named() {
    // One chain of a single descriptor, but for what the case changes.
    let result = |change: &dyn Fn(&Driver<'_>)| {
        let memory = memory();
        let driver = driver(&memory, 4);
        driver.describe(0, BUFFERS, 16, 0, 0);
        driver.offer(0);
        change(&driver);
        queue(&memory, 4).take().map(|chain| chain.map(|chain| chain.head))
    };
    let bad_buffer =
        |start, len| Err(RingError::Buffer(OutOfBounds { start, len: u64::from(len), limit: LEN as u64 }));
    assert_eq!(result(&|_| {}), Ok(Some(0)));
    assert_eq!(result(&|d| d.set_available_index(0)), Ok(None));
    assert_eq!(result(&|d| d.set_available_index(4)), Ok(Some(0)));
    let too_many = |offered| Err(RingError::TooManyOffered { offered, size: 4 });
    assert_eq!(result(&|d| d.set_available_index(5)), too_many(5));
    assert_eq!(result(&|d| d.set_available_index(0xffff)), too_many(0xffff));
    for index in [4, 0xffff] {
        let no_such = Err(RingError::NoSuchDescriptor { index, size: 4 });
        let head = |d: &Driver<'_>| {
            d.set_available_index(0);
            d.offer(index);
        };
        assert_eq!(result(&head), no_such);
        assert_eq!(result(&|d| d.describe(0, BUFFERS, 16, NEXT, index)), no_such);
    }
    assert_eq!(result(&|d| d.describe(0, BUFFERS, 16, NEXT, 0)), Err(RingError::Loop));
    let long_loop = |d: &Driver<'_>| {
        d.describe(0, BUFFERS, 0, NEXT, 1);
        d.describe(1, BUFFERS, 0, NEXT, 0);
    };
    assert_eq!(result(&long_loop), Err(RingError::Loop));
    assert_eq!(result(&|d| d.describe(0, BUFFERS, 16, INDIRECT, 0)), Err(RingError::Indirect));
    let backwards = |d: &Driver<'_>| {
        d.describe(0, BUFFERS, 16, NEXT | WRITE, 1);
        d.describe(1, BUFFERS, 16, 0, 0);
    };
    assert_eq!(result(&backwards), Err(RingError::ReadableAfterWritable));
    for (start, len) in
        [(LEN as u64, 1), (LEN as u64 - 1, 2), (0, u32::MAX), (u64::MAX, 1), (u64::MAX - 1, 2), (1 << 32, 1)]
    {
        assert_eq!(result(&|d| d.describe(0, start, len, 0, 0)), bad_buffer(start, len));
    }
    assert_eq!(result(&|d| d.describe(0, 0, LEN as u32, WRITE, 0)), Ok(Some(0)));
}

#[test]
fn a_chain_may_be_as_long_as_the_ring() {
    let memory = memory();
    let driver = driver(&memory, 4);
    let buffers: Vec<_> = (0..4).map(|i| (BUFFERS + 2 * i, 2, false)).collect();
    driver.describe_chain(0, &buffers);
    driver.put(BUFFERS, b"abcdefgh");
    driver.offer(0);
    let mut chain = queue(&memory, 4).take().unwrap().unwrap();
    assert_eq!(read_all(&mut chain.readable), b"abcdefgh");
}

#[test]
fn interrupts_are_sent_once_and_only_when_wanted() {
    let memory = memory();
    let driver = driver(&memory, 4);
    driver.describe(0, BUFFERS, 16, 0, 0);
    let mut queue = queue(&memory, 4);
    assert!(!queue.wants_interrupt(), "nothing was given back");
    queue.give_back(0, 0);
    assert!(queue.wants_interrupt());
    assert!(!queue.wants_interrupt(), "the guest has been told");
    driver.want_interrupts(false);
    queue.give_back(0, 0);
    assert!(!queue.wants_interrupt());
}

#[test]
fn a_chain_offered_before_notifications_were_awaited_is_seen() {
    let memory = memory();
    let driver = driver(&memory, 4);
    driver.describe(0, BUFFERS, 16, 0, 0);
    let mut queue = queue(&memory, 4);
    queue.ignore_notifications();
    assert!(!driver.device_wants_notification());
    assert!(!queue.await_notifications());
    assert!(driver.device_wants_notification());
    driver.offer(0);
    assert!(queue.await_notifications());
    assert!(queue.take().unwrap().is_some());
    assert!(!queue.await_notifications());
}

/// What the two sides of a queue do in the model.
#[derive(Clone, Debug)]
enum Action {
    /// The driver offers a chain with this output, and room for this much input.
    Offer { output: Vec<Vec<u8>>, room: Vec<u8> },
    /// The device takes a chain.
    Take,
    /// The device answers one of the chains it holds, with this byte as often as this.
    Answer { which: prop::sample::Index, byte: u8, len: u16 },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (vec(vec(any::<u8>(), 0..9), 0..3), vec(0u8..9, 0..3)).prop_map(|(mut output, room)| {
            if output.is_empty() && room.is_empty() {
                output.push(Vec::new());
            }
            Action::Offer { output, room }
        }),
        Just(Action::Take),
        (any::<prop::sample::Index>(), any::<u8>(), 0u16..32).prop_map(|(which, byte, len)| Action::Answer {
            which,
            byte,
            len
        }),
    ]
}

proptest! {
    /// Chains arrive in the order they were offered with the contents they had, answers arrive where the
    /// driver expects them, and indices wrap.
    #[test]
    fn an_honest_driver_gets_what_it_wants(actions in vec(action(), 0..200), size_log in 1u32..5) {
        let size = 1u16 << size_log;
        let memory = memory();
        let driver = driver(&memory, size);
        let mut queue = queue(&memory, size);
        // The model: free descriptors; chains offered; chains at the device; answers expected.
        let mut free: VecDeque<u16> = (0..size).collect();
        let mut offered = VecDeque::new();
        let mut taken = Vec::new();
        let mut answered = 0u16;
        for action in actions {
            match action {
                Action::Offer { output, room } => {
                    let parts = output.len() + room.len();
                    if parts > free.len() {
                        continue;
                    }
                    let numbers: Vec<u16> = free.drain(..parts).collect();
                    let place = |number: u16| BUFFERS + 16 * u64::from(number) + 3;
                    let lens = output.iter().map(|o| (o.len() as u32, 0)).chain(
                        room.iter().map(|&r| (u32::from(r), WRITE)));
                    for (i, (len, flags)) in lens.enumerate() {
                        let next = numbers.get(i + 1);
                        let flags = flags | if next.is_some() { NEXT } else { 0 };
                        driver.describe(numbers[i], place(numbers[i]), len, flags, next.copied().unwrap_or(0xdead));
                    }
                    for (number, output) in numbers.iter().zip(&output) {
                        driver.put(place(*number), output);
                    }
                    driver.offer(numbers[0]);
                    let rooms: Vec<(u64, usize)> = numbers[output.len()..].iter().zip(&room)
                        .map(|(number, len)| (place(*number), usize::from(*len))).collect();
                    offered.push_back((numbers, output.concat(), rooms));
                }
                Action::Take => {
                    let got = queue.take().unwrap();
                    let Some((numbers, output, rooms)) = offered.pop_front() else {
                        prop_assert!(got.is_none());
                        continue;
                    };
                    let mut chain = got.expect("an offered chain");
                    prop_assert_eq!(chain.head, numbers[0]);
                    prop_assert_eq!(read_all(&mut chain.readable), output);
                    prop_assert_eq!(chain.writable.left(), rooms.iter().map(|r| r.1 as u64).sum::<u64>());
                    taken.push((chain, numbers, rooms));
                }
                Action::Answer { which, byte, len } => {
                    if taken.is_empty() {
                        continue;
                    }
                    let (mut chain, numbers, rooms) = taken.swap_remove(which.index(taken.len()));
                    let room: usize = rooms.iter().map(|r| r.1).sum();
                    let written = chain.writable.write(&vec![byte; usize::from(len)]).unwrap();
                    prop_assert_eq!(written, room.min(usize::from(len)));
                    queue.give_back(chain.head, written as u32);
                    answered = answered.wrapping_add(1);
                    prop_assert_eq!(driver.used_index(), answered);
                    let element = driver.used_element(answered.wrapping_sub(1));
                    prop_assert_eq!(element, (u32::from(numbers[0]), written as u32));
                    let input: Vec<u8> = rooms.iter().flat_map(|&(at, len)| driver.get(at, len)).collect();
                    prop_assert!(input[..written].iter().all(|&b| b == byte));
                    free.extend(numbers);
                }
            }
        }
    }

    /// Whatever is in the ring, a device takes at most as many chains as it has entries, and each is
    /// within memory.
    #[test]
    fn a_hostile_ring_is_refused_or_harmless(
        words in vec(hostile_word(), RING_WORDS),
        size_log in 0u32..5,
    ) {
        let size = 1u16 << size_log;
        let memory = memory();
        let ring: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        driver(&memory, size).put(RING, &ring);
        let mut queue = queue(&memory, size);
        let mut chains = 0u32;
        while let Ok(Some(mut chain)) = queue.take() {
            chains += 1;
            prop_assert!(chains <= u32::from(size));
            prop_assert!(chain.head < size);
            let left = chain.readable.left() + chain.writable.left();
            prop_assert!(left <= u64::from(size) * LEN as u64);
            let offered = chain.readable.left();
            let n = chain.readable.read(&mut [0; 100]).unwrap() as u64;
            prop_assert_eq!((n, chain.readable.left()), (offered.min(100), offered - offered.min(100)));
            queue.give_back(chain.head, 0);
        }
    }

    /// Splitting and reading in any pieces yields the same bytes.
    #[test]
    fn buffers_split_anywhere(lens in vec(0u32..20, 1..8), at in 0u64..100, step in 1usize..7) {
        let memory = memory();
        let driver = driver(&memory, 8);
        let contents: Vec<u8> = (0..255).collect();
        driver.put(BUFFERS + 1, &contents);
        let mut parts = Vec::new();
        let mut total = 0;
        for len in lens {
            parts.push((BUFFERS + 1 + u64::from(total), len, false));
            total += len;
        }
        driver.describe_chain(0, &parts);
        driver.offer(0);
        let mut front = queue(&memory, 8).take().unwrap().unwrap().readable;
        let back = front.split_off(at);
        let cut = at.min(u64::from(total));
        prop_assert_eq!((front.left(), back.left()), (cut, u64::from(total) - cut));
        let mut bytes = Vec::new();
        for mut half in [front, back] {
            let mut piece = vec![0; step];
            while let Ok(n @ 1..) = half.read(&mut piece) {
                bytes.extend_from_slice(&piece[..n]);
            }
            prop_assert_eq!(half.left(), 0);
        }
        prop_assert_eq!(&bytes[..], &contents[..total as usize]);
    }
}

/// Words of the guest's part of a ring of 16, the largest that the hostile driver has.
const RING_WORDS: usize = (16 * 16 + 6 + 2 * 16) / 4 + 1;

/// A hostile word of a ring: small numbers and edges more often than others.
fn hostile_word() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0u32..16,
        2 => (0u32..16, 0u32..8).prop_map(|(high, low)| high << 16 | low),
        1 => Just(LEN as u32 - 1),
        1 => Just(u32::MAX),
        2 => any::<u32>(),
    ]
}

/// A guest that rewrites its ring while the device reads it.
#[test]
fn a_ring_may_change_at_any_moment() {
    const SIZE: u16 = 8;
    let memory = memory();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let driver = driver(&memory, SIZE);
            let mut state = 1u32;
            let mut random = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 16
            };
            while !stop.load(Ordering::Relaxed) {
                let flags = random() as u16 & (NEXT | WRITE);
                let (i, next) = (random() as u16 % SIZE, random() as u16 % (SIZE + 1));
                driver.describe(i, u64::from(random()), random() & 0xff, flags, next);
                // Near where the device is, so that it often takes the bait.
                driver.set_available_index(driver.used_index().wrapping_add(random() as u16 % SIZE));
                driver.offer(random() as u16 % (SIZE + 1));
            }
        });
        let (mut taken, mut refused) = (0u32, 0u32);
        let mut queue = queue(&memory, SIZE);
        while taken < 1000 || refused < 1000 {
            match queue.take() {
                Ok(Some(mut chain)) => {
                    taken += 1;
                    assert!(chain.head < SIZE);
                    let left = chain.readable.left();
                    assert!(left <= u64::from(SIZE) * 0xff);
                    assert_eq!(read_all(&mut chain.readable).len() as u64, left);
                    queue.give_back(chain.head, 0);
                }
                Ok(None) => {}
                Err(_) => {
                    refused += 1;
                    let driver = driver(&memory, SIZE);
                    driver.put(RING, &vec![0; ring_bytes(SIZE) as usize]);
                    queue = self::queue(&memory, SIZE);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
