//! Names as they stand in the source.
//!
//! blazesym can do this, but takes any name for a mangled one: a C function called `a` becomes `signed char`.

/// A C++ or Rust name demangled, the latter without its hash; any other as it is.
pub(super) fn demangle(name: &str) -> String {
    rust(name).or_else(|| cpp(name)).unwrap_or_else(|| name.to_owned())
}

fn rust(name: &str) -> Option<String> {
    rustc_demangle::try_demangle(name).ok().map(|demangled| format!("{demangled:#}"))
}

/// Only names with the prefix that the Itanium C++ ABI reserves (section 5.1.2); without it they would be bare types.
fn cpp(name: &str) -> Option<String> {
    if !name.starts_with("_Z") {
        return None;
    }
    cpp_demangle::Symbol::new(name).ok()?.demangle().ok()
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
