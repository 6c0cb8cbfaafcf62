//! What went wrong, in the caller's hands.

use crate::border::{free, guarded_or};
use crate::code::tokenweir_code;
use crate::text::Chars;
use std::ffi::c_char;

/// What went wrong in one call, with the thing it names and the next step.
///
/// Every call that can fail takes `tokenweir_error **error`. NULL there: the code is enough, and nothing is allocated.
/// Otherwise the call puts a new error there if it fails, and NULL if it does not.
///
/// Ownership: the caller's, until tokenweir_error_free(). Threads: any number may read it at once.
pub struct tokenweir_error {
    code: tokenweir_code,
    message: Chars,
}

impl tokenweir_error {
    pub(crate) fn new(code: tokenweir_code, message: &str) -> Self {
        tokenweir_error { code, message: Chars::new(message) }
    }
}

/// The code: the same that the call returned. TOKENWEIR_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_error_code(error: *const tokenweir_error) -> tokenweir_code {
    guarded_or(tokenweir_code::TOKENWEIR_OK, || {
        // SAFETY: NULL or live, as the header asks.
        unsafe { error.as_ref() }.map_or(tokenweir_code::TOKENWEIR_OK, |error| error.code)
    })
}

/// The message: UTF-8 with a NUL behind it, valid until the error is freed; a policy's has a line for each problem. ""
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_error_message(error: *const tokenweir_error) -> *const c_char {
    guarded_or(c"".as_ptr(), || {
        // SAFETY: NULL or live, as the header asks.
        unsafe { error.as_ref() }.map_or(c"".as_ptr(), |error| error.message.pointer())
    })
}

/// Frees an error. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_error_free(error: *mut tokenweir_error) {
    // SAFETY: NULL or an error of ours that nobody uses any more, as the header asks.
    unsafe { free(error) }
}
