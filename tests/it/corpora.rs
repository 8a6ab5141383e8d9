//! The corpora of the fuzz targets as plain tests: what a fuzzer once found interesting, or broke, still holds.

#[path = "../../fuzz/properties.rs"]
pub mod properties;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[test]
fn every_property_holds_over_its_corpus() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, property) in properties::ALL {
        let mut inputs = 0;
        for file in fs::read_dir(corpora.join(name)).unwrap() {
            let path = file.unwrap().path();
            let input = fs::read(&path).unwrap();
            assert!(catch_unwind(|| property(&input)).is_ok(), "{}", path.display());
            inputs += 1;
        }
        assert!(inputs > 10, "the corpus of {name} is there");
    }
}
