//! Names as they stand in the source.
//!
//! blazesym can do this, but takes any name for a mangled one: a C function called `a` becomes `signed char`.

use std::fmt::{self, Write as _};

/// A mangled name of some bytes can stand for one of any length, as parts of it refer to parts. What would be longer stays as it is.
const MOST_BYTES: usize = 1 << 16;

/// A C++ or Rust name demangled, the latter without its hash; any other as it is.
pub fn demangle(name: &str) -> String {
    rust(name).or_else(|| cpp(name)).unwrap_or_else(|| name.to_owned())
}

fn rust(name: &str) -> Option<String> {
    let demangled = rustc_demangle::try_demangle(name).ok()?;
    let mut text = Bounded(String::new());
    write!(text, "{demangled:#}").ok().map(|()| text.0)
}

/// Only names with the prefix that the Itanium C++ ABI reserves (section 5.1.2); without it they would be bare types.
fn cpp(name: &str) -> Option<String> {
    if !name.starts_with("_Z") {
        return None;
    }
    let mut text = Bounded(String::new());
    let demangled = cpp_demangle::Symbol::new(name).ok()?;
    demangled.structured_demangle(&mut text, &cpp_demangle::DemangleOptions::new()).ok().map(|()| text.0)
}

/// A text that is no longer than [`MOST_BYTES`].
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MOST_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::demangle;

    #[test]
    fn mangled_names_are_demangled() {
        assert_eq!(demangle("_ZN4core9panicking9panic_fmt17h5f1a6fd39197ad62E"), "core::panicking::panic_fmt");
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(demangle("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(demangle("_Znwm"), "operator new(unsigned long)");
    }

    #[test]
    fn names_of_c_stay_as_they_are() {
        for name in ["a", "i", "main", "_start", "foo::bar", "_Z", "_R", "", "__libc_start_call_main"] {
            assert_eq!(demangle(name), name);
        }
    }
}
