//! The times when keys were last used, as a file to which batches are appended.
//!
//! Answers for: appending costs as much as the batch holds, and the file is rewritten only once it
//! has grown to a multiple of its distinct content. A crash loses the last batch, and damaged
//! batches are skipped: these times inform people and decide nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};

use crate::codec::{self, HEADER_BYTES, Kind};
use crate::data_dir::DataDir;
use crate::files::{self, TEMPORARY_SUFFIX};

const LAST_USES: &str = "LAST_USES";
const VERSION: u8 = 1;
/// Length of a key's id, bytes.
const ID_BYTES: usize = 12;
/// Size of one row, bytes: the id, and the time as milliseconds since the Unix epoch.
const ROW_BYTES: usize = ID_BYTES + 8;
/// Most rows of one envelope.
const ROWS_MAX: usize = 4_096;

/// A key's id, and when it was last used, milliseconds since the Unix epoch.
pub type LastUse = ([u8; ID_BYTES], u64);

impl DataDir {
    /// Appends a batch to the file. Durable when this returns.
    ///
    /// # Errors
    /// The system's error; a batch that was cut short is skipped when the file is read.
    pub fn append_last_uses(&self, uses: &[LastUse]) -> io::Result<()> {
        let path = self.path().join(LAST_USES);
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        write(&mut file, uses.iter().copied())?;
        file.sync_data()
    }

    /// Rewrites the whole file. Durable when this returns; the old file exists until then.
    ///
    /// # Errors
    /// The system's error.
    pub fn replace_last_uses(&self, uses: impl Iterator<Item = LastUse>) -> io::Result<()> {
        let temporary = self.path().join(format!("{LAST_USES}{TEMPORARY_SUFFIX}"));
        let written = File::create(&temporary).and_then(|mut file| {
            write(&mut file, uses)?;
            file.sync_all()
        });
        let placed = written
            .and_then(|()| fs::rename(&temporary, self.path().join(LAST_USES)))
            .and_then(|()| files::sync_dir(self.path()));
        if placed.is_err() {
            // Best effort: the next open removes a leftover.
            let _ = fs::remove_file(&temporary);
        }
        placed
    }

    /// Reads the file, oldest batches first, up to its end or the first damage. Returns whether the
    /// whole file could be read.
    ///
    /// # Errors
    /// The system's error.
    pub fn read_last_uses(&self, mut each: impl FnMut(LastUse)) -> io::Result<bool> {
        let file = match File::open(self.path().join(LAST_USES)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        let mut reader = io::BufReader::new(file);
        let mut envelope = Vec::new();
        loop {
            envelope.clear();
            let head = (&mut reader).take(HEADER_BYTES as u64).read_to_end(&mut envelope)?;
            if head == 0 {
                return Ok(true);
            }
            let rows_max = ROWS_MAX * ROW_BYTES;
            let Some(bytes) = codec::payload_bytes(&envelope).ok().filter(|b| *b <= rows_max)
            else {
                return Ok(false);
            };
            (&mut reader).take(bytes as u64).read_to_end(&mut envelope)?;
            let Ok((VERSION, payload)) = codec::open(Kind::LastUses, &envelope) else {
                return Ok(false);
            };
            for row in payload.chunks_exact(ROW_BYTES) {
                let (Some(id), Some(at)) = (row.first_chunk(), row.last_chunk()) else { continue };
                each((*id, u64::from_le_bytes(*at)));
            }
        }
    }
}

fn write(file: &mut File, uses: impl Iterator<Item = LastUse>) -> io::Result<()> {
    let mut payload = Vec::new();
    let mut flush = |payload: &mut Vec<u8>| {
        let sealed = codec::seal(Kind::LastUses, VERSION, payload).map_err(io::Error::other)?;
        payload.clear();
        file.write_all(&sealed)
    };
    for (id, at_ms) in uses {
        payload.extend_from_slice(&id);
        payload.extend_from_slice(&at_ms.to_le_bytes());
        if payload.len() == ROWS_MAX * ROW_BYTES {
            flush(&mut payload)?;
        }
    }
    if payload.is_empty() { Ok(()) } else { flush(&mut payload) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(numbers: std::ops::Range<u64>) -> Vec<LastUse> {
        let id = |n: u64| format!("{n:012}").as_bytes().try_into().unwrap();
        numbers.map(|n| (id(n), 1_000 + n)).collect()
    }

    fn read(data: &DataDir) -> (Vec<LastUse>, bool) {
        let mut found = Vec::new();
        let whole = data.read_last_uses(|one| found.push(one)).unwrap();
        (found, whole)
    }

    #[test]
    fn batches_are_read_in_order_and_a_rewrite_replaces_them() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), "test", 1).unwrap();
        assert_eq!(read(&data), (Vec::new(), true));
        data.append_last_uses(&uses(0..3)).unwrap();
        data.append_last_uses(&[]).unwrap();
        data.append_last_uses(&uses(1..10_000)).unwrap();
        assert_eq!(read(&data), ([uses(0..3), uses(1..10_000)].concat(), true));
        data.replace_last_uses(uses(5..7).into_iter()).unwrap();
        assert_eq!(read(&data), (uses(5..7), true));
    }

    #[test]
    fn reading_stops_at_the_first_cut_or_damaged_batch() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), "test", 1).unwrap();
        data.append_last_uses(&uses(0..3)).unwrap();
        let path = dir.path().join(LAST_USES);
        let one = fs::read(&path).unwrap();
        for cut in 0..one.len() {
            let two = [&one[..], &one[..cut]].concat();
            fs::write(&path, two).unwrap();
            assert_eq!(read(&data), (uses(0..3), cut == 0), "{cut}");
        }
        for at in 0..one.len() {
            let mut flipped = one.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, [&one[..], &flipped].concat()).unwrap();
            assert_eq!(read(&data), (uses(0..3), false), "{at}");
        }
    }
}
