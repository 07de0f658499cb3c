//! What bpf-linker wrote, without what the kernel does not read.

use anyhow::{Context as _, Result, bail};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// What the kernel reads: the types, and the source line of each instruction.
const KEPT: [&[u8]; 2] = [b".BTF", b".BTF.ext"];

/// Removes DWARF, the greater part of the object.
pub(super) fn without_debug_sections(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the compiler made no ELF file")?;
    for name in KEPT {
        if !builder.sections.iter().any(|section| section.name.as_slice() == name) {
            bail!("the object has no section {}: bpf-linker wants --btf and debug information", name.escape_ascii());
        }
    }
    for section in builder.sections.iter_mut() {
        section.delete = is_debug_section(&section.name);
    }
    builder.delete_orphans();
    // LLVM keeps the sections' names among the symbols' names; the writer wants them by themselves.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot write the object")?;
    Ok(stripped)
}

fn is_debug_section(name: &[u8]) -> bool {
    name.strip_prefix(b".rel").unwrap_or(name).starts_with(b".debug_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dwarf_goes_and_btf_stays() {
        assert!(is_debug_section(b".debug_info"));
        assert!(is_debug_section(b".rel.debug_info"));
        assert!(!is_debug_section(b".BTF"));
        assert!(!is_debug_section(b".rel.BTF.ext"));
        assert!(!is_debug_section(b"uprobe"));
    }
}
