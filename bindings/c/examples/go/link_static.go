//go:build static

package main

// #cgo pkg-config: --static tokenweir
import "C"
