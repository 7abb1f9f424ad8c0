package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"shekara/netctl/durable"
)

const maxPEM = 256 << 10 // bytes of a file: hundreds of certificates

// Roots reads the certificates of authorities.
func Roots(file string) (*x509.CertPool, error) {
	text, err := durable.ReadFile(file, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ca: %s holds no certificate in PEM", file)
	}
	return roots, nil
}

// Files name a certificate, with what leads from it to an authority, and its private key.
type Files struct {
	Certificate string
	Key         string
	Group       string // may read the key, besides root: named in the error if everybody may
}

// Read reads the two files.
func (f Files) Read() (tls.Certificate, error) {
	info, err := os.Stat(f.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return tls.Certificate{}, fmt.Errorf("key: everybody may read or write %s (mode %04o): chmod 0640, and chgrp %s", f.Key, mode, f.Group)
	}
	certificate, err := durable.ReadFile(f.Certificate, maxPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	key, err := durable.ReadFile(f.Key, maxPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate %s with key %s: %w", f.Certificate, f.Key, err)
	}
	return pair, nil
}

// Renewed is the pair of two files as they are now. It may be used by several goroutines.
type Renewed struct {
	files Files

	mutex    sync.Mutex // guards what follows
	tried    [2]version
	last     *tls.Certificate // the last that was good
	lastFail error            // of reading the files as tried
}

// version tells whether a file is still the one that was read: a new one in its place has another number, or another time.
type version struct {
	size     int64
	modified time.Time
	info     fs.FileInfo
}

func (v version) same(other version) bool {
	return v.size == other.size && v.modified.Equal(other.modified) && v.info != nil && other.info != nil && os.SameFile(v.info, other.info)
}

// Renew reads nothing yet.
func Renew(files Files) *Renewed { return &Renewed{files: files} }

// Now reads the files again if they changed. With an error, a certificate is the last that was good: one of the files may be replaced before the other.
func (r *Renewed) Now() (*tls.Certificate, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	now := [2]version{versionOf(r.files.Certificate), versionOf(r.files.Key)}
	if now[0].same(r.tried[0]) && now[1].same(r.tried[1]) {
		return r.last, r.lastFail
	}
	r.tried = now
	pair, err := r.files.Read()
	if r.lastFail = err; err == nil {
		r.last = &pair
	}
	return r.last, r.lastFail
}

func versionOf(file string) version {
	info, err := os.Stat(file)
	if err != nil {
		return version{} // the same as none: it is read, and the error said, again each time
	}
	return version{info.Size(), info.ModTime(), info}
}
