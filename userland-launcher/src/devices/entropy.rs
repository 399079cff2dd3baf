//! The entropy device: fills the guest's buffers with the host's random bytes.

use super::{AnyService, Device, RequestService, Stop};
use crate::outcome::{Outcome, Violation};
use crate::virtqueue::Chain;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Virtio's number for an entropy source.
const ID: u8 = 4;
/// Bytes for one request at most; a guest that needs more sends another request.
const REQUEST_MAX: usize = 4096;

/// An entropy device.
#[derive(Clone, Debug)]
pub struct Entropy(Arc<File>);

impl Entropy {
    /// The host's `/dev/urandom`, which does not block.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open() -> io::Result<Self> {
        Ok(Self(Arc::new(File::open("/dev/urandom")?)))
    }
}

impl Device for Entropy {
    fn id(&self) -> u8 {
        ID
    }

    fn name(&self) -> String {
        "entropy source".into()
    }

    fn queues(&self) -> u8 {
        1
    }

    fn start(&mut self) -> Result<Vec<AnyService>, Outcome> {
        Ok(vec![Requests(self.0.clone()).into()])
    }
}

/// The queue of buffers to fill.
pub struct Requests(Arc<File>);

impl RequestService for Requests {
    fn answer(&mut self, request: &mut Chain<'_>) -> Result<u32, Stop> {
        if request.readable.left() > 0 {
            return Err(Violation::Protocol("sends output to the entropy source").into());
        }
        let mut bytes = [0; REQUEST_MAX];
        let n = REQUEST_MAX.min(usize::try_from(request.writable.left()).unwrap_or(REQUEST_MAX));
        let filled = self.0.as_ref().read_exact(&mut bytes[..n]);
        filled
            .and_then(|()| request.writable.write_all(&bytes[..n]))
            .map_err(|error| Outcome::Failed { doing: "reading /dev/urandom".into(), error })?;
        Ok(n as u32)
    }
}
