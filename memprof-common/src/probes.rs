//! What the programs are told of the probes: the attach cookie, which of them count, and what a site's arguments mean.

use crate::{MAX_SITES, MAX_TARGETS};

/// The attach cookie of a probe: which process (target) and which function (site) fired, and since which of the times
/// that the target was probed anew (generation). Probes of an older generation, which are on their way out, mean nothing.
///
/// A probe that is attached for one window only, in which allocations are observed, says which; and each says whether the
/// kernel steps through what it probes.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub u64);

impl Cookie {
    const SITE_MASK: u64 = (1 << 15) - 1;
    const STEPPED: u64 = 1 << 15;
    /// In place of a target, none of which has this number.
    const EVERYONE: u32 = u16::MAX as u32;

    /// Packs a target (index into `TARGETS`, below [`MAX_TARGETS`]), its generation, and a site (index into `SITES`, below
    /// [`MAX_SITES`]).
    pub const fn new(target: u32, generation: u16, site: u32) -> Self {
        Self((generation as u64) << 48 | (target as u64) << 32 | site as u64 & Self::SITE_MASK)
    }

    /// The same for one window, from 1; 0 is for all of them.
    #[must_use]
    pub const fn in_window(self, window: u16) -> Self {
        Self(self.0 | (window as u64) << 16)
    }

    /// Of a site that is probed in every process that maps it. Which target it is of, the programs find by the pid
    /// ([`Self::of_target`]).
    pub const fn of_everyone(site: u32) -> Self {
        Self::new(Self::EVERYONE, 0, site)
    }

    /// Whether it is of every process.
    pub const fn is_of_everyone(self) -> bool {
        self.target() == Self::EVERYONE
    }

    /// The same, of one target's probes of a generation.
    #[must_use]
    pub const fn of_target(self, target: u32, generation: u32) -> Self {
        Self(self.0 & u32::MAX as u64 | (generation as u64) << 48 | (target as u64) << 32)
    }

    /// The same at an instruction that the kernel single-steps.
    #[must_use]
    pub const fn stepped(self, is_stepped: bool) -> Self {
        Self(if is_stepped { self.0 | Self::STEPPED } else { self.0 })
    }

    /// Index into `TARGETS`.
    pub const fn target(self) -> u32 {
        (self.0 >> 32) as u16 as u32
    }

    /// The generation of the target's probes that it belongs to.
    pub const fn generation(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// Index into `SITES`.
    pub const fn site(self) -> u32 {
        (self.0 & Self::SITE_MASK) as u32
    }

    /// The window that the probe is for; 0 if for all.
    pub const fn window(self) -> u32 {
        (self.0 >> 16) as u16 as u32
    }

    /// 1 if the kernel single-steps the probed instruction, 0 if it emulates it.
    pub const fn manner(self) -> usize {
        (self.0 >> 15 & 1) as usize
    }
}

/// `BINDINGS`, by target: the probes that count. Userspace writes it, and the end of the thread that they are bound to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Their generation.
    pub generation: u32,
    /// The thread that they are bound to; zero if there are none.
    pub thread: u32,
    /// 1 if they count on when that thread ends.
    pub outlives_thread: u32,
    /// The window whose probes count, of those that are for one window.
    pub window: u32,
    /// 1 while allocations are not observed: between windows.
    pub is_closed: u32,
}

impl Binding {
    /// The generation of no probe's.
    pub const NO_GENERATION: u32 = u32::MAX;
}

/// `CALLS`, by target, for each CPU: how often its probes fired, from the start. Each by [`Cookie::manner`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Returns from functions that only allocate.
    pub allocations: [u64; 2],
    /// Returns from functions that resize.
    pub resizes: [u64; 2],
    /// Entries of functions that free.
    pub frees: [u64; 2],
}

/// `SITES`: where a probed instruction lies within the executable segment that holds it, in bytes. From the address at
/// which the probe fires this gives the range of the object's code, wherever it is mapped. And what the function's
/// arguments mean, for the programs that are not made for one behaviour.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// From the start of the segment to the probed instruction.
    pub bytes_before: u64,
    /// From the probed instruction to the end of the segment.
    pub bytes_after: u64,
    /// The argument that is the size, or [`NO_ARGUMENT`].
    pub size: u8,
    /// The argument by which the size is to be multiplied, or [`NO_ARGUMENT`].
    pub factor: u8,
    /// The argument that is a block, or that points to where the new one will be written, or [`NO_ARGUMENT`].
    pub block: u8,
    /// 1 if the call frees that block when it succeeds.
    pub resizes: u8,
    /// What the function returns, one of [`result`].
    pub result: u8,
    /// 1 if the function has no return probe, but probes at its `ret` instructions.
    pub has_exits: u8,
    /// Zero.
    pub reserved: u16,
}

/// What a function returns.
pub mod result {
    /// The new block; null is a failure.
    pub const POINTER: u8 = 0;
    /// The new block; null is a failure, which frees the old block too.
    pub const POINTER_OR_FREED: u8 = 1;
    /// Zero, after the new block was written to where the argument points; anything else is a failure.
    pub const WRITTEN: u8 = 2;
    /// The size that the block has, which stays where it is; less than asked for is a failure.
    pub const SIZE: u8 = 3;
}

/// In a [`Site`]: no argument means that.
pub const NO_ARGUMENT: u8 = u8::MAX;

const _: () = {
    assert!(MAX_TARGETS <= Cookie::EVERYONE);
    assert!(MAX_SITES as u64 <= Cookie::SITE_MASK + 1);
    assert!(size_of::<Binding>() == 20);
    assert!(size_of::<Calls>() == 48);
    assert!(size_of::<Site>() == 24);
};

#[cfg(test)]
mod tests {
    use super::Cookie;

    #[test]
    fn a_cookie_holds_all_of_it() {
        let cookie = Cookie::new(4095, 65_535, 4095).in_window(65_535).stepped(true);
        assert_eq!((cookie.target(), cookie.generation(), cookie.site()), (4095, 65_535, 4095));
        assert_eq!((cookie.window(), cookie.manner()), (65_535, 1));
        let plain = Cookie::new(3, 2, 7);
        assert_eq!((plain.window(), plain.manner(), plain.in_window(9).site()), (0, 0, 7));
    }
}
