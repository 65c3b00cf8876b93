//! Disks that are small enough to be filled.

use std::fs;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A small file system that is unmounted when dropped.
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    /// Mounts it; needs root. `None` if that is not permitted.
    pub(crate) fn mount(path: PathBuf, bytes: u64) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        match mount("fluxgate-test", &path, "tmpfs", MountFlags::empty(), options.as_c_str()) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                let shown = format!("cannot mount a small disk: {error}");
                assert!(std::env::var("CI").as_deref() != Ok("true"), "{shown}");
                eprintln!("{shown}: nothing is tested");
                None
            }
        }
    }

    /// Fills it to the last byte with one file.
    pub(crate) fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        let chunk = vec![1u8; 64 * 1024];
        while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
        while std::io::Write::write_all(&mut file, &chunk[..1]).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
