package document_test

import (
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/provisioning/document"
)

//go:generate go test -run TestReferenceIsUpToDate -update

var update = flag.Bool("update", false, "write generated and golden files anew")

func TestReferenceIsUpToDate(t *testing.T) {
	const path = "../../docs/documents.md"
	if *update {
		if err := os.WriteFile(path, []byte(document.Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(have), "\n"), strings.Split(document.Reference(), "\n")); diff != "" {
		t.Errorf("%s is stale: go generate ./provisioning/document (-have +want):\n%s", path, diff)
	}
}

// What the decoder, the writer and the reference know of types: a new field of another type must be taught to them first.
func TestSpecsAreOfKnownTypes(t *testing.T) {
	var walk func(v reflect.Type, path string)
	walk = func(v reflect.Type, path string) {
		switch v.Kind() {
		case reflect.String, reflect.Int, reflect.Bool:
		case reflect.Pointer, reflect.Slice:
			if v.Kind() == reflect.Pointer && v.Elem().Kind() != reflect.Struct || v.Kind() == reflect.Slice && v.Elem().Kind() != reflect.Struct && v.Elem().Kind() != reflect.String {
				t.Errorf("%s: %s is not decoded", path, v)
			}
			walk(v.Elem(), path)
		case reflect.Struct:
			for i := range v.NumField() {
				f := v.Field(i)
				name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
				if name == "" || options != "" && options != "omitempty" || f.Tag.Get("doc") == "" {
					t.Errorf("%s.%s: wants a yaml name, omitempty or nothing, and a doc", path, f.Name)
				}
				walk(f.Type, path+"."+name)
			}
		default:
			t.Errorf("%s: %s is not decoded", path, v)
		}
	}
	for _, spec := range []any{document.Zone{}, document.Site{}, document.Peer{}, document.Tunnel{}, document.Flow{},
		document.Organisation{}, document.System{}, document.Gateway{}, document.Service{}, document.CryptoModule{}, document.Assertion{}, document.EventSink{}, document.IncidentRule{}} {
		walk(reflect.TypeOf(spec), reflect.TypeOf(spec).Name())
	}
}
