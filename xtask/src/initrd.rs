//! The host VM's initial file system: a `newc` cpio archive, the format of the kernel's initramfs.

use std::io::Write;

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

/// An archive being put together in memory.
#[derive(Default)]
pub struct Initrd {
    bytes: Vec<u8>,
    entries: u32,
}

impl Initrd {
    /// Adds a directory; those above it come first.
    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, 0o755, ModeFileType::Directory, &[], (0, 0))
    }

    /// Adds a file that can be read by all.
    pub fn file(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        self.entry(path, 0o644, ModeFileType::Regular, contents, (0, 0))
    }

    /// Adds a program.
    pub fn program(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        self.entry(path, 0o755, ModeFileType::Regular, contents, (0, 0))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, to: &str) -> Result<()> {
        self.entry(path, 0o777, ModeFileType::Symlink, to.as_bytes(), (0, 0))
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.entry(path, 0o600, ModeFileType::Char, &[], (major, minor))
    }

    /// The archive.
    pub fn finish(self) -> Result<Vec<u8>> {
        trailer(self.bytes).context("the archive's end cannot be written")
    }

    fn entry(
        &mut self,
        path: &str,
        permissions: u32,
        kind: ModeFileType,
        contents: &[u8],
        (major, minor): (u32, u32),
    ) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(contents.len())
            .with_context(|| format!("{path} has 4 GB or more, which the format cannot hold"))?;
        let mut writer = Builder::new(path)
            .ino(self.entries)
            .nlink(1)
            .mode(permissions)
            .set_mode_file_type(kind)
            .rdev_major(major)
            .rdev_minor(minor)
            .write(&mut self.bytes, size);
        writer.write_all(contents).and_then(|()| writer.finish().map(drop)).with_context(|| path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use cpio::newc::Reader;

    use super::*;

    #[test]
    fn holds_what_was_put_in() {
        let mut initrd = Initrd::default();
        initrd.directory("bin").unwrap();
        initrd.program("bin/busybox", b"ELF?").unwrap();
        initrd.link("bin/sh", "busybox").unwrap();
        initrd.device("dev/console", 5, 1).unwrap();
        initrd.file("steps/list", b"00-a 120\n").unwrap();
        let bytes = initrd.finish().unwrap();

        let mut found = Vec::new();
        let mut rest: &[u8] = &bytes;
        loop {
            let mut reader = Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut contents = Vec::new();
            reader.read_to_end(&mut contents).unwrap();
            let entry = reader.entry();
            let device = (entry.rdev_major(), entry.rdev_minor());
            found.push((entry.name().to_owned(), entry.mode(), device, contents));
            rest = reader.finish().unwrap();
        }
        let entry =
            |name: &str, mode, device, contents: &[u8]| (name.to_owned(), mode, device, contents.to_vec());
        assert_eq!(
            found,
            [
                entry("bin", 0o040755, (0, 0), b""),
                entry("bin/busybox", 0o100755, (0, 0), b"ELF?"),
                entry("bin/sh", 0o120777, (0, 0), b"busybox"),
                entry("dev/console", 0o020600, (5, 1), b""),
                entry("steps/list", 0o100644, (0, 0), b"00-a 120\n"),
            ]
        );
    }
}
