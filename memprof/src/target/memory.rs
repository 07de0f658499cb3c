//! What the kernel says of anonymous memory: how much of it a process has in RAM, and in what sizes it may come.

use std::fs;

use super::status::Status;

const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage";

/// Anonymous memory that a process has in RAM, in bytes (`RssAnon`). Nothing if it is gone.
pub fn anonymous_memory(pid: u32) -> Option<u64> {
    Some(Status::read(pid).ok()?.memory()?.anonymous)
}

/// Whether a page fault may bring in a huge page.
pub fn has_huge_pages() -> bool {
    fs::read_to_string(format!("{HUGE_PAGES}/enabled")).is_ok_and(|enabled| !enabled.contains("[never]"))
}

/// Whether a page fault may bring in several pages, and less than a huge page of the processor's.
pub fn has_several_huge_page_sizes() -> bool {
    let size_of_one = fs::read_to_string(format!("{HUGE_PAGES}/hpage_pmd_size")).ok();
    let size_of_one = size_of_one.and_then(|size| size.trim().parse::<u64>().ok()).unwrap_or_default();
    let own_name = format!("hugepages-{}kB", size_of_one / 1024);
    let mut sizes = fs::read_dir(HUGE_PAGES).into_iter().flatten().flatten();
    sizes.any(|size| {
        let is_other = size.file_name().to_str().is_some_and(|name| name.starts_with("hugepages-") && name != own_name);
        is_other && fs::read_to_string(size.path().join("enabled")).is_ok_and(|enabled| !enabled.contains("[never]"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn this_process_has_anonymous_memory() {
        assert!(anonymous_memory(std::process::id()).unwrap() >= 4096);
        assert_eq!(anonymous_memory(u32::MAX), None);
    }
}
