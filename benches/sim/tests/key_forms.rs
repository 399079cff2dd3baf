//! Sequences of keys: each form read, written, and refused where it is malformed.

use arch_i386::addr::GuestPhys;
use sim::input::Input;
use sim::keys::{Column, Key, KeyForm, KeyReader, KeyWriter, ReadForm};
use sim::trace::Operation;

fn keys(bytes: &[u8], form: &ReadForm) -> Result<Vec<String>, String> {
    let reader = KeyReader::new(bytes, form).map_err(|error| error.to_string())?;
    reader.map(|key| key.map(|key| key.to_string()).map_err(|error| error.to_string())).collect()
}

fn named(name: &str) -> ReadForm {
    ReadForm::Csv { column: Column::Name(name.to_owned()), delimiter: b',' }
}

fn numbered(number: usize, header: bool) -> ReadForm {
    ReadForm::Csv { column: Column::Number { number, header }, delimiter: b',' }
}

fn written(form: KeyForm, compressed: bool, number: bool, keys: &[&str]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut writer = KeyWriter::new(&mut bytes, form, compressed, number).unwrap();
    for key in keys {
        writer.write(Key::of(key)).map_err(|error| error.to_string())?;
    }
    writer.finish().unwrap();
    Ok(bytes)
}

#[test]
fn a_list_has_a_key_a_line() {
    let list = b"# comment\n12\n\n  abc  \r\n12\n # another\n07";
    assert_eq!(keys(list, &ReadForm::List).unwrap(), ["12", "abc", "12", "07"]);
    assert_eq!(keys(b"", &ReadForm::List).unwrap(), [""; 0]);
    let refused = |list: &[u8]| keys(list, &ReadForm::List).unwrap_err();
    assert!(refused(b"1\n2 3\n").starts_with("line 2: `3` is one word too many"));
    assert_eq!(refused(b"1\n\n\xff\n"), "line 3: it is not UTF-8");
    assert!(refused(&vec![b'a'; (1 << 20) + 1]).starts_with("line 1: it is longer than"));
}

#[test]
fn a_table_has_its_keys_in_a_column() {
    let table = b"time,object id,size\n# comment\n1, 12 ,512\n2,\"a,b\",512\n3,12,\"x\ny\"\n4,9,1\n";
    let expected = ["12", "a,b", "12", "9"];
    assert_eq!(keys(table, &named("object id")).unwrap(), expected);
    assert_eq!(keys(table, &numbered(2, true)).unwrap(), expected);
    assert_eq!(keys(table, &numbered(1, false)).unwrap(), ["time", "1", "2", "3", "4"]);
    let column = Column::Name("key".to_owned());
    let tabs = ReadForm::Csv { column, delimiter: b'\t' };
    assert_eq!(keys(b"time\tkey\n1\ta,b\n2\t7\n", &tabs).unwrap(), ["a,b", "7"]);
}

#[test]
fn a_malformed_table_is_refused_with_the_line() {
    let table = b"time,key,key\n1,2,3\n";
    assert_eq!(
        keys(table, &named("id")).unwrap_err(),
        "line 1: no column is named `id`; there are `time`, `key`, `key`; --key-column chooses one by its name or number, \
         and --delimiter what is between them"
    );
    assert_eq!(
        keys(table, &named("key")).unwrap_err(),
        "line 1: 2 columns are named `key`; choose one by its number"
    );
    assert_eq!(keys(table, &numbered(4, true)).unwrap_err(), "line 2: there is no column 4; the line has 3");
    assert_eq!(
        keys(b"key,x\n1,1\n,1\n", &named("key")).unwrap_err(),
        "line 3: column 1 is empty, where the key should be"
    );
    assert!(keys(b"", &named("key")).unwrap_err().starts_with("the file has no first line"));
    let uneven = keys(b"key,x\n1,1\n2\n", &named("key")).unwrap_err();
    assert!(uneven.contains("line: 3") && uneven.contains("1 fields"), "{uneven}");
}

/// By the layout in libCacheSim's source, made with Python:
/// `struct.pack('<IQIq', 0, 5, 1, 3) + struct.pack('<IQIq', 1, 2**40, 1, -1) + struct.pack('<IQIq', 2, 5, 1, -1)`.
const ORACLE: [u8; 72] = [
    0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, //
    1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, //
    2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
];
const ORACLE_KEYS: [&str; 3] = ["5", "1099511627776", "5"];

#[test]
fn oracle_general_is_read_and_written() {
    assert_eq!(keys(&ORACLE, &ReadForm::OracleGeneral).unwrap(), ORACLE_KEYS);
    assert_eq!(written(KeyForm::OracleGeneral, false, false, &ORACLE_KEYS).unwrap(), ORACLE);
    let mut empty = ORACLE;
    empty[36] = 0;
    assert_eq!(
        keys(&empty, &ReadForm::OracleGeneral).unwrap(),
        ["5", "5"],
        "a request of size 0 is left out"
    );
    assert_eq!(
        keys(&ORACLE[..50], &ReadForm::OracleGeneral).unwrap_err(),
        "record 3, at byte 48: 2 bytes, where a record has 24: the file was cut, or it is no oracleGeneral trace"
    );
}

#[test]
fn every_form_reads_what_it_writes() {
    let list = ["7", "3", "7", "18446744073709551615", "0", "3"];
    for compressed in [false, true] {
        for (form, read) in [
            (KeyForm::List, ReadForm::List),
            (KeyForm::Csv, named("key")),
            (KeyForm::OracleGeneral, ReadForm::OracleGeneral),
        ] {
            let bytes = written(form, compressed, false, &list).unwrap();
            assert_eq!(keys(&bytes, &read).unwrap(), list, "{form:?}");
            let numbers = written(form, compressed, true, &["x", "y", "x", "z"]).unwrap();
            assert_eq!(keys(&numbers, &read).unwrap(), ["0", "1", "0", "2"], "{form:?}");
        }
    }
    assert_eq!(
        written(KeyForm::Csv, false, false, &["7", "a,b"]).unwrap(),
        b"time,key,size\n0,7,1\n1,\"a,b\",1\n"
    );
}

#[test]
fn what_a_form_cannot_name_is_refused() {
    let refused = written(KeyForm::OracleGeneral, false, false, &["1", "abc"]).unwrap_err();
    assert!(
        refused.starts_with("load 1: `abc` is no number") && refused.contains("--number-keys"),
        "{refused}"
    );
    for key in ["a b", "#a", ""] {
        let refused = written(KeyForm::List, false, false, &["1", key]).unwrap_err();
        assert!(refused.starts_with(&format!("load 1: `{key}` has blanks")), "{refused}");
    }
}

#[test]
fn a_compression_that_is_not_read_is_named() {
    // The header of `printf 'a\n' | gzip -c`, and of `gzip` of a file.
    for flags in [0, 8] {
        let why = keys(&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3], &ReadForm::List).unwrap_err();
        assert!(why.contains("they are gzip's"), "{why}");
    }
}

#[test]
fn an_input_ends_before_a_load_that_is_too_many() {
    let trace = "lgtrace 1\npaging 2\npages 64\nseed 1\ncpus 1\nswitcher 0xffc00000\ninit 0xc0000000\ncr3 0x1000\n\
                 flush all\ncr3 0x2000\nflush user\ncr3 0x3000\nnonsense\n";
    let read = |loads| {
        let input = Input::new(trace.as_bytes(), None).unwrap().accept_loss(true).of_loads(loads);
        input.map(Result::unwrap).collect::<Vec<_>>()
    };
    let load = |at| Operation::LoadPageDirectory(GuestPhys(at));
    assert_eq!(read(1)[1..], [load(0x1000), Operation::FlushAll]);
    assert_eq!(read(2)[1..], [load(0x1000), Operation::FlushAll, load(0x2000), Operation::FlushUser]);
    let keys = Input::new(&b"a\nb\na\n"[..], Some(&ReadForm::List)).unwrap().of_loads(2);
    assert_eq!(keys.map(Result::unwrap).collect::<Vec<_>>(), [load(32), load(64)]);
}

#[test]
fn each_key_is_a_page_directory() {
    let input = Input::new(&b"a\nb\na\n"[..], Some(&ReadForm::List)).unwrap();
    let loads: Vec<_> = input.map(Result::unwrap).collect();
    let load = |at| Operation::LoadPageDirectory(GuestPhys(at));
    assert_eq!(loads, [load(32), load(64), load(32)]);
}
