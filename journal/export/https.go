package export

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/http"
	"time"
)

const (
	lineType = "application/x-ndjson"
	// signatureTag says what a signature is for (RFC 9421, section 2.3), so that none made for something else passes as one of a batch.
	signatureTag = "shekara-journal"
)

// batches sends lines in signed batches. A batch says of which sequences it is, and begins right behind the one before, whatever the filter passed
// over in between: who has some of them sees whether one is missing.
type batches struct {
	*poster
	done uint64 // sequence up to which the receiver has batches
}

func openBatches(ctx context.Context, s Sink, after uint64) (*batches, error) {
	p, err := openPoster(ctx, s)
	if err != nil {
		return nil, err
	}
	return &batches{p, after}, nil
}

func (b *batches) send(ctx context.Context, position uint64, records []record) error {
	for part, rest := range parts(records, bodyBytes) {
		last := position
		if len(rest) > 0 {
			last = part[len(part)-1].event.Sequence
		}
		var body []byte
		for _, r := range part {
			body = append(append(body, r.line...), '\n')
		}
		config, err := b.sink.tlsConfig() // the key that is there now: it may have been renewed
		if err != nil {
			return err
		}
		header, err := signedHeader(fmt.Sprintf("%s/%d-%d", b.sink.Site, b.done+1, last), body, config.Certificates[0], time.Now())
		if err != nil {
			return err
		}
		if _, err := b.post(ctx, header, body); err != nil {
			return err
		}
		b.done = last
	}
	return nil
}

// settled is the end of the last batch. What the filter passed over since then belongs to the next one.
func (b *batches) settled(time.Time) (delivered, held uint64) { return b.done, b.done }

// parts yields records in pieces of so many bytes at most, or one record, each with those after it.
func parts(records []record, most int) func(yield func(part, rest []record) bool) {
	return func(yield func(part, rest []record) bool) {
		for len(records) > 0 {
			n, size := 1, len(records[0].line)
			for n < len(records) && size+len(records[n].line) < most {
				size += len(records[n].line)
				n++
			}
			if !yield(records[:n], records[n:]) {
				return
			}
			records = records[n:]
		}
	}
}

// signedHeader is the header of a batch: its range, as the key of a request (draft-ietf-httpapi-idempotency-key-header), the digest of its body (RFC 9530), and a
// signature over these (RFC 9421) with the key of our certificate. It can be checked later and elsewhere, by who keeps both. A batch that comes again may reach
// further, and so have another key: only the records' own sequences say what comes twice.
func signedHeader(id string, body []byte, by tls.Certificate, now time.Time) (http.Header, error) {
	digest := sha256.Sum256(body)
	header := http.Header{
		"Content-Type":    {lineType},
		"Idempotency-Key": {`"` + id + `"`},
		"Content-Digest":  {"sha-256=:" + base64.StdEncoding.EncodeToString(digest[:]) + ":"},
	}
	algorithm, sign, err := signer(by.PrivateKey)
	if err != nil {
		return nil, err
	}
	certificate := sha256.Sum256(by.Certificate[0])
	parameters := fmt.Sprintf(`("content-type" "content-digest" "idempotency-key");created=%d;keyid="%s";alg="%s";tag="%s"`, now.Unix(),
		hex.EncodeToString(certificate[:]), algorithm, signatureTag)
	base := fmt.Sprintf("\"content-type\": %s\n\"content-digest\": %s\n\"idempotency-key\": %s\n\"@signature-params\": %s", header.Get("Content-Type"),
		header.Get("Content-Digest"), header.Get("Idempotency-Key"), parameters)
	signature, err := sign([]byte(base))
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", id, err)
	}
	header.Set("Signature-Input", "journal="+parameters)
	header.Set("Signature", "journal=:"+base64.StdEncoding.EncodeToString(signature)+":")
	return header, nil
}

// signer is how a key signs, by the name that RFC 9421, section 3.3, has for it.
func signer(key crypto.PrivateKey) (algorithm string, sign func(text []byte) ([]byte, error), err error) {
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		hash := map[elliptic.Curve]crypto.Hash{elliptic.P256(): crypto.SHA256, elliptic.P384(): crypto.SHA384}[key.Curve]
		algorithm = map[crypto.Hash]string{crypto.SHA256: "ecdsa-p256-sha256", crypto.SHA384: "ecdsa-p384-sha384"}[hash]
		if algorithm != "" {
			return algorithm, func(text []byte) ([]byte, error) { return signECDSA(key, hash, text) }, nil
		}
	case ed25519.PrivateKey:
		return "ed25519", func(text []byte) ([]byte, error) { return ed25519.Sign(key, text), nil }, nil
	case *rsa.PrivateKey:
		return "rsa-pss-sha512", func(text []byte) ([]byte, error) {
			return rsa.SignPSS(rand.Reader, key, crypto.SHA512, hashed(crypto.SHA512, text), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}, nil
	}
	return "", nil, fmt.Errorf("key: batches cannot be signed with one of this sort: take one of ECDSA on P-256 or P-384, Ed25519 or RSA")
}

func hashed(by crypto.Hash, text []byte) []byte {
	h := by.New()
	h.Write(text)
	return h.Sum(nil)
}

// signECDSA writes the two numbers one after the other in full length (RFC 9421, section 3.3.4), not as ASN.1.
func signECDSA(key *ecdsa.PrivateKey, hash crypto.Hash, text []byte) ([]byte, error) {
	der, err := key.Sign(rand.Reader, hashed(hash, text), hash)
	if err != nil {
		return nil, err
	}
	var numbers struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &numbers); err != nil {
		return nil, err
	}
	size := (key.Curve.Params().BitSize + 7) / 8
	return append(numbers.R.FillBytes(make([]byte, size)), numbers.S.FillBytes(make([]byte, size))...), nil
}
