// The same as gateway.c in Go, by cgo:
//
//	go run .
//	go run -tags static -ldflags '-linkmode external -extldflags "-static"' .
package main

// #include <stdlib.h>
// #include <tokenweir.h>
import "C"

import (
	"fmt"
	"os"
	"strings"
	"unsafe"
)

const policy = `
[[limit]]
name = 'project rpm'
meter = 'requests'
algorithm = 'bucket'
amount = 600
per = '1m'
scope = ['project']

[[limit]]
name = 'project tpm'
meter = 'total'
algorithm = 'bucket'
amount = 10_000
burst = 2_000
per = '1m'
scope = ['project', 'deployment']

[[limit]]
name = 'deployment window'
meter = 'total'
algorithm = 'window'
amount = 60_000
per = '1m'
scope = ['deployment']

[[limit]]
name = 'project month'
meter = 'total'
algorithm = 'quota'
amount = 50_000_000
period = 'monthly'
scope = ['project']
`

// Limiter is the library's, to be closed.
type Limiter struct {
	limiter *C.tokenweir_limiter
	clock   *C.tokenweir_clock
}

// done makes an error of what the library says of a call that failed, and frees that.
func done(code C.tokenweir_code, said **C.tokenweir_error) error {
	if code == C.TOKENWEIR_OK {
		return nil
	}
	defer C.tokenweir_error_free(*said)
	return fmt.Errorf("%s: %s", C.GoString(C.tokenweir_code_name(C.int32_t(code))), C.GoString(C.tokenweir_error_message(*said)))
}

// Open makes a limiter on a clock that stands still.
func Open(toml string) (*Limiter, error) {
	var said *C.tokenweir_error
	var read *C.tokenweir_policy
	source := C.CString(toml)
	defer C.free(unsafe.Pointer(source))
	if err := done(C.tokenweir_policy_from_toml(source, C.size_t(len(toml)), &read, &said), &said); err != nil {
		return nil, err
	}
	defer C.tokenweir_policy_free(read)
	l := &Limiter{}
	if err := done(C.tokenweir_clock_new_manual(nil, &l.clock, &said), &said); err != nil {
		return nil, err
	}
	options := C.tokenweir_options_init()
	options.clock = l.clock
	if err := done(C.tokenweir_limiter_new(read, &options, &l.limiter, &said), &said); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close frees it.
func (l *Limiter) Close() {
	C.tokenweir_limiter_free(l.limiter)
	C.tokenweir_clock_free(l.clock)
}

// Admit decides and says so.
func (l *Limiter) Admit(project string, input, output uint64) (C.tokenweir_decision, error) {
	var said *C.tokenweir_error
	name, deployment := C.CString(project), C.CString("gpt-4o")
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(deployment))
	request := C.tokenweir_request_of(name, deployment)
	estimate := C.tokenweir_estimate_of(C.uint64_t(input), C.uint64_t(output))
	decision := C.tokenweir_decision_init()
	if err := done(C.tokenweir_limiter_admit(l.limiter, &request, &estimate, nil, &decision, nil, &said), &said); err != nil {
		return decision, err
	}
	if decision.admitted == 1 {
		fmt.Printf("%s: admitted\n", project)
	} else {
		fmt.Printf("%s: denied by %s, status %d, %d ms to wait, Retry-After: %d\n", project,
			C.GoString(&decision.limit[0]), decision.status, decision.retry_after_ns/1000000, decision.retry_after_seconds)
	}
	return decision, nil
}

func run() error {
	l, err := Open(policy)
	if err != nil {
		return err
	}
	defer l.Close()
	var said *C.tokenweir_error

	search, err := l.Admit("search", 900, 400)
	if err != nil {
		return err
	}
	var spent C.uint32_t
	for chunk := 0; chunk < 4; chunk++ {
		if err := done(C.tokenweir_limiter_observe(l.limiter, search.permit, 0, 95, nil, &spent, &said), &said); err != nil {
			return err
		}
	}
	fmt.Printf("search: 380 tokens streamed, spent: %d\n", spent)
	usage := C.tokenweir_usage_of(912, 380)
	usage.cached_input = 512
	settlement := C.tokenweir_settlement_init()
	if err := done(C.tokenweir_limiter_settle(l.limiter, search.permit, &usage, nil, &settlement, &said), &said); err != nil {
		return err
	}
	fmt.Printf("search: settled %d input, %d of them cached, %d output\n", settlement.input, settlement.cached_input, settlement.output)

	chat, err := l.Admit("chat", 1200, 400)
	if err != nil {
		return err
	}
	if _, err := l.Admit("chat", 1000, 500); err != nil {
		return err
	}
	var text *C.tokenweir_text
	if err := done(C.tokenweir_limiter_permit(l.limiter, chat.permit, nil, &text, &said), &said); err != nil {
		return err
	}
	json := C.GoString(C.tokenweir_text_chars(text))
	C.tokenweir_text_free(text)
	fmt.Printf("chat: %s\n", json[strings.Index(json, `"remaining"`):])
	if err := done(C.tokenweir_limiter_cancel(l.limiter, chat.permit, nil, nil, &said), &said); err != nil {
		return err
	}
	_, err = l.Admit("chat", 1000, 500)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
