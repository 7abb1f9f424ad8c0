package api_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shekara/provisioning/client"
)

// Those who only look share two large requests, so that they cannot fill the memory; who acts never waits for them.
func TestLargeRequestsOfLookersWaitForEachOther(t *testing.T) {
	b := start(t, as("root")) // through the view door root only looks, too
	const plan = "/api/v1/plans"
	var held []net.Conn
	for range 2 {
		conn, err := net.Dial("unix", filepath.Join(b.directory, client.ViewSocket))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: box\r\nContent-Type: application/json\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n", plan)
		// The server asks for the body once it reads it, and then it holds one of the two.
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
			t.Fatalf("%q, %v", line, err)
		}
		held = append(held, conn)
	}
	const body = `{"files":[{"name":"a.yaml","content":"a"}]}`
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://box"+plan, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if answer, err := b.through(client.ViewSocket).Do(request); err == nil {
		answer.Body.Close()
		t.Errorf("a third large request of a looker was answered %s", answer.Status)
	}
	if answer, text := b.send(t, client.ViewSocket, "GET", "/api/v1/status", ""); answer.StatusCode != http.StatusOK {
		t.Errorf("a small request of a looker: %s %s", answer.Status, text)
	}
	if answer, text := b.send(t, client.ActSocket, "POST", plan, body); answer.StatusCode != http.StatusOK {
		t.Errorf("one who acts: %s %s", answer.Status, text)
	}
	held[0].Close()
	if answer, text := b.send(t, client.ViewSocket, "POST", plan, body); answer.StatusCode != http.StatusOK {
		t.Errorf("a looker after another has gone: %s %s", answer.Status, text)
	}
}
