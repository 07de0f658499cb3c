#![allow(missing_docs)]
fn main() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let t = std::time::Instant::now();
        match memprof::kernel::Kernel::load(Default::default(), Default::default(), std::env::args().nth(1).is_some()) {
            Ok(k) => { println!("ok {} bytes in {:?}", k.memory_bytes(), t.elapsed()); for p in aya::programs::loaded_programs().flatten() { println!("{:?} {:?} xlated {:?}", p.name_as_str(), p.verified_instruction_count(), p.size_jitted()); } },
            Err(e) => { let mut e: &dyn std::error::Error = &e; loop { println!("{e}"); match e.source() { Some(s) => e = s, None => break } } },
        }
    });
}
