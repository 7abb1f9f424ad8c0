package documenttest

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"shekara/provisioning/document"
)

// Mutate makes one to four random changes at once: documents removed, copied under another name, or with a field changed, mostly to
// values that other documents have, so that they meet.
func Mutate(t *rapid.T, set *document.Set) (*document.Set, []document.Change) {
	all := slices.Collect(set.All())
	var put []*document.Document
	var remove []document.Ref
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		d := rapid.SampledFrom(all).Draw(t, "document")
		switch rapid.IntRange(0, 9).Draw(t, "verb") {
		case 0:
			remove = append(remove, d.Ref())
		case 1:
			put = append(put, changed(t, all, d, rapid.SampledFrom(names(all)).Draw(t, "name")))
		default:
			put = append(put, changed(t, all, d, d.Name))
		}
	}
	after, _ := set.Without(remove...)
	after, _ = after.Merge(put)
	// The changes as one step, which is what is asked of a Set.
	return set.Replace(slices.Collect(after.All()))
}

func names(all []*document.Document) []string {
	list := []string{"new", "newer"}
	for _, d := range all {
		list = append(list, d.Name)
	}
	return list
}

// changed is a copy of d with some of its fields changed.
func changed(t *rapid.T, all []*document.Document, d *document.Document, name string) *document.Document {
	copies, _ := document.Decode([]document.File{{Name: "copy", Data: []byte(d.Canonical())}})
	spec := reflect.ValueOf(copies[0].Spec).Elem()
	for range rapid.IntRange(1, 3).Draw(t, "fields") {
		field(t, all, spec, "")
	}
	made, err := document.New(name, copies[0].Spec)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// field goes down to one value and changes it.
func field(t *rapid.T, all []*document.Document, v reflect.Value, name string) {
	switch v.Kind() {
	case reflect.Struct:
		i := rapid.IntRange(0, v.NumField()-1).Draw(t, "field")
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		field(t, all, v.Field(i), tag)
	case reflect.Pointer:
		if v.IsNil() || rapid.Bool().Draw(t, "remove") {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			} else {
				v.SetZero()
			}
			return
		}
		field(t, all, v.Elem(), name)
	case reflect.Slice:
		slice(t, all, v, name)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int:
		v.SetInt(int64(rapid.SampledFrom([]int{0, 1, 1400, 51820, 51821, 51822, 70000}).Draw(t, "number")))
	case reflect.String:
		v.SetString(rapid.SampledFrom(append(values(all, name), "", "x")).Draw(t, name))
	}
}

func slice(t *rapid.T, all []*document.Document, v reflect.Value, name string) {
	choice := rapid.IntRange(0, 3).Draw(t, "list")
	switch {
	case v.Len() > 0 && choice == 0:
		v.Set(v.Slice(0, v.Len()-1))
	case v.Len() == 0 || choice == 1:
		item := reflect.New(v.Type().Elem()).Elem()
		if v.Len() > 0 {
			item.Set(v.Index(0))
		}
		field(t, all, item, name)
		v.Set(reflect.Append(v, item))
	default:
		field(t, all, v.Index(rapid.IntRange(0, v.Len()-1).Draw(t, "item")), name)
	}
}

// values are what the documents have in fields of the name, and for references what they could have.
func values(all []*document.Document, name string) []string {
	prefixes := []string{"prefixes", "from", "to"}
	found := map[string]bool{}
	for _, d := range all {
		for kind, fields := range map[document.Kind][]string{document.KindZone: {"zone", "farZone", "fromZone", "toZone"}, document.KindPeer: {"peer", "peers"}, document.KindTunnel: {"tunnel"}, document.KindSite: {"site", "sites"},
			document.KindOrganisation: {"organisation", "with"}, document.KindSystem: {"system"}, document.KindService: {"service"}, document.KindCryptoModule: {"cryptoModule"}} {
			if d.Kind == kind && slices.Contains(fields, name) {
				found[d.Name] = true
			}
		}
		collect(reflect.ValueOf(d.Spec).Elem(), "", func(at, s string) {
			if at == name || slices.Contains(prefixes, at) && slices.Contains(prefixes, name) {
				found[s] = true
			}
			if p, err := netip.ParsePrefix(s); err == nil && name == "publicIP" {
				found[p.Addr().Next().String()] = true // a peer within a selector
			}
		})
	}
	list := make([]string, 0, len(found))
	for s := range found {
		list = append(list, s)
	}
	slices.Sort(list)
	return list
}

func collect(v reflect.Value, name string, each func(name, value string)) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			collect(v.Field(i), tag, each)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			collect(v.Elem(), name, each)
		}
	case reflect.Slice:
		for i := range v.Len() {
			collect(v.Index(i), name, each)
		}
	case reflect.String:
		each(name, v.String())
	}
}
