//! All that `replay` writes as JSON against its definition, `docs/replay.schema.json`.

use jsonschema::Validator;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/replay.schema.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn validator() -> Validator {
    jsonschema::draft202012::meta::validate(&schema()).unwrap();
    jsonschema::validator_for(&schema()).unwrap()
}

/// Runs the program in a folder; returns the JSON that it prints, a value for each line or one for all.
fn replay(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_replay")).current_dir(folder).args(arguments).output().unwrap();
    let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    let values: Vec<Value> = values.map(Result::unwrap).collect();
    assert!(!values.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    values
}

/// Holds what is printed against the definition; returns the first value.
fn conforms(folder: &Path, name: &str, arguments: &[&str]) -> Value {
    let (validator, values) = (validator(), replay(folder, arguments));
    for value in &values {
        assert_eq!((&value["schema"], &value["version"]), (&json!(name), &json!(1)), "{arguments:?}");
        let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{arguments:?}: {errors:#?}\n{value:#}");
    }
    values[0].clone()
}

#[test]
fn every_output_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let trace = |name: &str| traces.join(name).to_str().unwrap().to_owned();
    let (calm, hostile) = (trace("calm-p2-101.trace"), trace("hostile-p2-203.trace"));
    fs::write(folder.join("a.keys"), "1\n2\n1\n").unwrap();
    let many: String = (0..4000).map(|load| format!("{}\n", load * load % 1009)).collect();
    fs::write(folder.join("many.keys"), many).unwrap();

    conforms(folder, "replay-report", &[&calm, "--format", "json", "--dump"]);
    let killed = conforms(folder, "replay-report", &[&hostile, "--format", "json"]);
    assert!(killed["killed"].is_object(), "the guest of {hostile} is killed");
    let compare = ["--strategies", "lru,tlb,opt", "--slots", "2,3", "--format", "json"];
    for first in [&[&*calm, "--warmup", "5"][..], &[&hostile], &["a.keys", "--seed", "3"]] {
        conforms(folder, "replay-comparison", &[first, &compare[..]].concat());
    }
    let exact = conforms(folder, "replay-analysis", &["analyze", &calm, "--format", "json"]);
    assert!(exact["reuse_distances"].is_array());
    let sampled = ["analyze", "many.keys", "--sample", "0.5", "--format", "json"];
    assert!(conforms(folder, "replay-analysis", &sampled)["sample"].is_object());
    let sampled = ["analyze", "many.keys", "--sample-size", "200", "--format", "json"];
    assert_eq!(conforms(folder, "replay-analysis", &sampled)["sample"]["directories"], 200);

    fs::write(folder.join("a.csv"), "1;7\n2;8\n").unwrap();
    let form = ["--key-column", "2", "--no-header", "--delimiter", ";", "--loads", "2"];
    let part = ["sweep", "list", "a.csv", "--strategies", "lru", "--slots", "0.5"];
    let job = conforms(folder, "replay-job", &[&part[..], &form].concat());
    assert_eq!(
        (&job["slots"], &job["form"]["loads"], &job["form"]["delimiter"]),
        (&json!(1), &json!(2), &json!(59))
    );
    let list = ["sweep", "list", "a.keys", "--strategies", "lru,tlb", "--slots", "2,3"];
    conforms(folder, "replay-job", &list);
    let jobs: String = replay(folder, &list).iter().map(|job| format!("{job}\n")).collect();
    fs::write(folder.join("jobs"), jobs).unwrap();
    let run = |number: &str| conforms(folder, "replay-result", &["sweep", "run", "jobs", number]);
    let results: String = ["1", "2", "3"].map(|number| format!("{}\n", run(number))).concat();
    fs::write(folder.join("results"), results).unwrap();
    conforms(folder, "replay-sweep", &["sweep", "merge", "jobs", "results", "--format", "json"]);
    fs::write(folder.join("a.keys"), "another\n").unwrap();
    assert!(run("1")["failed"].is_string());
}

/// The definition is no list of things that may be there: what is missing, unknown or of another version does not conform.
#[test]
fn the_definition_refuses() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.keys"), "1\n2\n1\n").unwrap();
    let good = replay(folder.path(), &["a.keys", "--strategies", "lru", "--format", "json"]).remove(0);
    let validator = validator();
    assert!(validator.is_valid(&good));
    let refused = |change: fn(&mut Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(!validator.is_valid(&bad), "{bad:#}");
    };
    refused(|value| value["version"] = json!(2));
    refused(|value| value["unknown"] = json!(2));
    refused(|value| value["rows"][0]["misses"] = json!(-1));
    refused(|value| drop(value["rows"][0].as_object_mut().unwrap().remove("cost")));
    refused(|value| drop(value["rows"][0]["report"].as_object_mut().unwrap().remove("ops")));
    refused(|value| value["rows"][0]["panic"] = json!("and yet figures"));
}
