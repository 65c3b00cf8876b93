//! The formats of every released version, byte by byte.
//!
//! `formats/v1.txt` has, for each shape that nodes send or store on disk, some values
//! as JSON and as the bytes that version 1 writes for them. Both directions must stay as they are:
//! a node reads what the previous version sent or stored, and the previous version reads what this
//! one writes, so the two form one cluster and a node can go back. A new shape is a new version
//! beside the old one.
//!
//! To add a value for a new shape, write two lines, its name and its JSON; with `FREEZE_FORMATS=1`
//! the test adds the bytes of values that have none. It never changes existing bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fluxgate_raft::fuzzing::Shapes;
use fluxgate_store::codec::{self, Kind};
use fluxgate_wire::{
    ActionV1, ActorV1, CommandErrorV1, CommandV1, ImportSourceV1, ItemV1, OutcomeV1, PutV1,
    RememberedV1,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One value of a shape, and the bytes that version 1 writes for it.
#[derive(Debug)]
struct Sample {
    name: String,
    json: String,
    bytes: Option<Vec<u8>>,
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/v1.txt")
}

fn unhex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0, "half a byte: {text}");
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Paragraphs of a name, a value and its bytes.
fn samples() -> Vec<Sample> {
    let text = fs::read_to_string(path()).expect("the formats");
    let paragraphs = text.split("\n\n").map(|p| p.trim()).filter(|p| !p.is_empty());
    let sample = |paragraph: &str| {
        let mut lines = paragraph.lines().filter(|line| !line.starts_with('#'));
        let (name, json) = (lines.next()?, lines.next()?);
        let bytes = lines.next().map(unhex);
        assert_eq!(lines.next(), None, "too many lines under {name}");
        Some(Sample { name: name.to_owned(), json: json.to_owned(), bytes })
    };
    paragraphs.filter_map(sample).collect()
}

/// Compares every sample with the output of this version.
struct Compare<'a> {
    samples: &'a mut Vec<Sample>,
    known: BTreeSet<String>,
    wrong: Vec<String>,
    freeze: bool,
}

impl Shapes for Compare<'_> {
    fn shape<T: Serialize + DeserializeOwned>(&mut self, name: &str, kind: Kind, version: u8) {
        self.known.insert(name.to_owned());
        for sample in self.samples.iter_mut().filter(|sample| sample.name == name) {
            if let Err(why) = compare::<T>(sample, kind, version, self.freeze) {
                self.wrong.push(format!("{name} {}: {why}", sample.json));
            }
        }
    }
}

fn compare<T: Serialize + DeserializeOwned>(
    sample: &mut Sample,
    kind: Kind,
    version: u8,
    freeze: bool,
) -> Result<(), String> {
    let value: T = serde_json::from_str(&sample.json).map_err(|error| error.to_string())?;
    let written = codec::encode(kind, version, &value).map_err(|error| error.to_string())?;
    if freeze && sample.bytes.is_none() {
        sample.json = serde_json::to_string(&value).map_err(|error| error.to_string())?;
        sample.bytes = Some(written.clone());
    }
    let frozen = sample.bytes.as_ref().ok_or("has no bytes yet")?;
    if written != *frozen {
        return Err(format!("is written as {}", hex(&written)));
    }
    let read: T = codec::decode(kind, version, frozen).map_err(|error| error.to_string())?;
    // As text: a JSON value of serde's holds no number of 128 bits.
    let read = serde_json::to_string(&read).map_err(|error| error.to_string())?;
    if read == sample.json { Ok(()) } else { Err(format!("is read as {read}")) }
}

#[test]
fn every_shape_is_read_and_written_as_in_version_1() {
    let mut samples = samples();
    let freeze = std::env::var_os("FREEZE_FORMATS").is_some();
    let before = samples.iter().filter(|sample| sample.bytes.is_some()).count();
    let mut compare =
        Compare { samples: &mut samples, known: BTreeSet::new(), wrong: Vec::new(), freeze };
    fluxgate_raft::fuzzing::shapes(&mut compare);
    fluxgate_server::fuzzing::shapes(&mut compare);
    let (known, wrong) = (compare.known, compare.wrong);
    assert!(wrong.is_empty(), "formats have changed:\n{}", wrong.join("\n"));
    let sampled: BTreeSet<String> = samples.iter().map(|sample| sample.name.clone()).collect();
    assert_eq!(sampled, known, "shapes and samples do not match");
    if samples.len() > before {
        let head = "# What version 1 writes: see tests/formats.rs. Only ever added to.\n";
        let one = |s: &Sample| {
            let bytes = hex(s.bytes.as_deref().unwrap_or_default());
            format!("\n{}\n{}\n{bytes}\n", s.name, s.json)
        };
        let text: String = samples.iter().map(one).collect();
        fs::write(path(), format!("{head}{text}")).expect("the formats are written");
    }
}

/// The names of an enum's variants, as serde's error for an unknown variant lists them.
fn variants<T: DeserializeOwned>() -> Vec<String> {
    let error = match serde_json::from_str::<T>("\"?\"") {
        Ok(_) => panic!("`?` is a variant"),
        Err(error) => error.to_string(),
    };
    let (_, listed) = error.split_once("expected ").expect("a list");
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every string and every key of an object in a value.
fn words(value: &Value, counts: &mut BTreeMap<String, usize>) {
    match value {
        Value::String(text) => *counts.entry(text.clone()).or_default() += 1,
        Value::Array(items) => items.iter().for_each(|item| words(item, counts)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            *counts.entry(name.clone()).or_default() += 1;
            words(field, counts);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn every_variant_has_a_sample() {
    let mut used = BTreeMap::new();
    for sample in samples() {
        words(&serde_json::from_str(&sample.json).expect("JSON"), &mut used);
    }
    let enums = [
        variants::<CommandV1>(),
        variants::<OutcomeV1>(),
        variants::<CommandErrorV1>(),
        variants::<PutV1>(),
        variants::<ActorV1>(),
        variants::<ImportSourceV1>(),
        variants::<RememberedV1>(),
        variants::<ActionV1>(),
        variants::<ItemV1>(),
    ];
    for variant in enums.iter().flatten() {
        assert!(used.contains_key(variant), "no sample has the variant {variant}");
    }
}

/// A message or record of a later version is rejected by its number, not misread.
#[test]
fn a_later_version_is_rejected_by_its_number() {
    struct Reject<'a>(&'a [Sample]);
    impl Shapes for Reject<'_> {
        fn shape<T: Serialize + DeserializeOwned>(&mut self, name: &str, kind: Kind, version: u8) {
            for sample in self.0.iter().filter(|sample| sample.name == name) {
                let bytes = sample.bytes.as_deref().expect("it has bytes");
                let (_, payload) = codec::open(kind, bytes).expect("an envelope");
                let later = codec::seal(kind, version + 1, payload).expect("it fits");
                let rejected = codec::decode::<T>(kind, version, &later).err();
                let (expected, found) = (version, version + 1);
                assert_eq!(
                    rejected,
                    Some(codec::CodecError::Version { expected, found }),
                    "{name}"
                );
            }
        }
    }
    let samples = samples();
    let mut reject = Reject(&samples);
    fluxgate_raft::fuzzing::shapes(&mut reject);
    fluxgate_server::fuzzing::shapes(&mut reject);
}
