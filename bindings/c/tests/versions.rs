//! A quota file that another release has written is refused. C cannot write one.

// It calls the entry points as C does.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ptr::null_mut;
use tokenweir_capi::*;

#[test]
fn a_quota_file_of_another_format_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a place for files");
    let path = directory.path().join("quotas");
    let database = redb::Database::create(&path).expect("a file");
    let write = database.begin_write().expect("a transaction");
    write
        .open_table(redb::TableDefinition::<&str, u64>::new("tokenweir"))
        .expect("a table")
        .insert("version", 7)
        .expect("a version");
    write.commit().expect("it is written");
    drop(database);
    let before = std::fs::read(&path).expect("a file");

    let (mut file, mut error) = (null_mut(), null_mut());
    let name = path.to_str().expect("text");
    // SAFETY: the text is as long as is said, the places are locals, the error is the library's.
    unsafe {
        let code = tokenweir_quota_file_open(name.as_ptr().cast(), name.len(), &mut file, &mut error);
        assert_eq!(code, tokenweir_code::TOKENWEIR_QUOTA_FILE_VERSION);
        let message = CStr::from_ptr(tokenweir_error_message(error)).to_str().expect("text");
        assert!(message.contains(name) && message.contains("format 7"), "{message}");
        tokenweir_error_free(error);
    }
    assert!(file.is_null());
    assert!(std::fs::read(&path).expect("a file") == before, "it has changed");
}
