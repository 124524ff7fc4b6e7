//! Compares the bytes of two files of equal size and reads only where one of them has data, so that a terabyte of hole
//! takes no time.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

const BUFFER_BYTES: usize = 1 << 20;

/// Offset of the first byte that differs.
pub(super) fn first_difference(left: &OwnedFd, right: &OwnedFd, size: u64) -> Result<Option<u64>> {
    let mut left_buffer = vec![0_u8; BUFFER_BYTES];
    let mut right_buffer = vec![0_u8; BUFFER_BYTES];
    let mut offset = 0;
    while let Some(start) = next_data(left, right, offset, size)? {
        let length = usize::try_from((size - start).min(BUFFER_BYTES as u64))?;
        read_at(left, start, &mut left_buffer[..length])?;
        read_at(right, start, &mut right_buffer[..length])?;
        if left_buffer[..length] != right_buffer[..length] {
            let place = left_buffer
                .iter()
                .zip(&right_buffer)
                .position(|(left, right)| left != right);
            return Ok(Some(start + place.unwrap_or_default() as u64));
        }
        offset = start + length as u64;
    }
    Ok(None)
}

/// The first offset from here on where either file has data.
fn next_data(left: &OwnedFd, right: &OwnedFd, offset: u64, size: u64) -> Result<Option<u64>> {
    if offset >= size {
        return Ok(None);
    }
    let next = [data_from(left, offset)?, data_from(right, offset)?]
        .into_iter()
        .flatten()
        .min();
    Ok(next.filter(|start| *start < size))
}

fn data_from(file: &OwnedFd, offset: u64) -> Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some(start)),
        // Only a hole is left.
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error).context("looking for data"),
    }
}

fn read_at(file: &OwnedFd, offset: u64, buffer: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        let length = rustix::io::pread(file, &mut buffer[done..], offset + done as u64)
            .context("reading")?;
        anyhow::ensure!(length > 0, "the file became shorter while it was compared");
        done += length;
    }
    Ok(())
}
