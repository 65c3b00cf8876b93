//! The harness's side of `shim.c`: builds it, and writes what a process's clocks and syncs should
//! do.
//!
//! Clocks never jump when a rate changes: the new rate starts from what the clock shows. Rates stay
//! within the drift that the protocol allows (1 %, `docs/protocol.md`), and their sum within
//! [`SKEW_MAX_NS`], because a sleep in the kernel does not follow them. Wall clock offsets are
//! arbitrary.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

use crate::arena::must;

const SOURCE: &str = include_str!("shim.c");
/// Largest rate: a little less than the drift that the protocol allows.
pub(crate) const RATE_PPB_MAX: i64 = 9_000_000;
/// How far a monotonic clock may deviate from the true one.
const SKEW_MAX_NS: i64 = 200_000_000;
const FIELDS: usize = 8;

/// The faults of a process. The layout is that of `struct control`.
#[derive(Clone, Copy, Debug, Default)]
struct Control {
    sequence: i64,
    rate_ppb: i64,
    anchor_ns: i64,
    skew_ns: i64,
    wall_offset_ns: i64,
    sync_delay_us: i64,
    sync_errno: i64,
}

#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) path: PathBuf,
    file: File,
    control: Mutex<Control>,
}

pub(crate) fn build(dir: &Path) -> anyhow::Result<PathBuf> {
    let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
    std::fs::write(&source, SOURCE).context("write the shim")?;
    let (from, to) = (source.display().to_string(), library.display().to_string());
    let flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", &to, &from];
    must("cc", &flags)?;
    Ok(library)
}

fn monotonic_ns() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

impl Shim {
    pub(crate) fn create(path: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&path).context("create a control file")?;
        let control = Control { anchor_ns: monotonic_ns(), ..Control::default() };
        let shim = Self { path, file, control: Mutex::new(control) };
        shim.change(|_| {})?;
        Ok(shim)
    }

    fn change(&self, change: impl FnOnce(&mut Control)) -> anyhow::Result<()> {
        let mut control = self.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut control);
        // Odd while it is being written.
        let odd = control.sequence + 1;
        self.file.write_all_at(&odd.to_ne_bytes(), 0)?;
        let fields: [i64; FIELDS - 1] = [
            control.rate_ppb,
            control.anchor_ns,
            control.skew_ns,
            control.wall_offset_ns,
            control.sync_delay_us,
            control.sync_errno,
            0,
        ];
        let bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_ne_bytes()).collect();
        self.file.write_all_at(&bytes, 8)?;
        control.sequence = odd + 1;
        self.file.write_all_at(&control.sequence.to_ne_bytes(), 0)?;
        Ok(())
    }

    /// Sets the offset of the wall clock.
    pub(crate) fn wall(&self, offset_ns: i64) -> anyhow::Result<()> {
        self.change(|control| control.wall_offset_ns = offset_ns)
    }

    /// Lets all clocks run faster or slower, but turns the rate around when they are too far off.
    pub(crate) fn drift(&self, rate_ppb: i64) -> anyhow::Result<()> {
        let now = monotonic_ns();
        self.change(|control| {
            let ran = i128::from(now - control.anchor_ns) * i128::from(control.rate_ppb);
            control.skew_ns += i64::try_from(ran / 1_000_000_000).unwrap_or(0);
            control.anchor_ns = now;
            let outward = (rate_ppb > 0) == (control.skew_ns > 0);
            let far = control.skew_ns.abs() > SKEW_MAX_NS;
            let rate = rate_ppb.clamp(-RATE_PPB_MAX, RATE_PPB_MAX);
            control.rate_ppb = if far && outward { -rate } else { rate };
        })
    }

    /// Delays every sync, and makes it fail if `errno` is not 0.
    pub(crate) fn sync(&self, delay_us: i64, errno: i64) -> anyhow::Result<()> {
        self.change(|control| (control.sync_delay_us, control.sync_errno) = (delay_us, errno))
    }
}
