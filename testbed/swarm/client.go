package swarm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// maxAnswer bounds an answer in bytes: the reports of 10,000 peers take some 5 MB.
const maxAnswer = 64 << 20

// Client speaks to a swarm in another process, in which Main runs. It is for one goroutine.
type Client struct {
	in, out *os.File
	answers *bufio.Scanner
}

// Start makes a swarm elsewhere: start runs the program with these as its standard input and output, which are closed here afterwards.
func Start(start func(in, out *os.File) error) (*Client, error) {
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inRead.Close()
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		inWrite.Close()
		return nil, err
	}
	defer outWrite.Close()
	c := &Client{in: inWrite, out: outRead, answers: bufio.NewScanner(outRead)}
	c.answers.Buffer(nil, maxAnswer)
	if err := start(inRead, outWrite); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the swarm, since its input ends. Closing again does nothing.
func (c *Client) Close() {
	c.in.Close()
	c.out.Close()
}

// Ask has one command done and returns its answer. An answer that says an error is one; when ctx ends, so does the swarm.
func (c *Client) Ask(ctx context.Context, command Command) (Answer, error) {
	var answer Answer
	text, err := json.Marshal(command)
	if err != nil {
		return answer, err
	}
	stop := context.AfterFunc(ctx, c.Close)
	defer stop()
	if _, err := c.in.Write(append(text, '\n')); err != nil {
		return answer, fmt.Errorf("ask swarm: %w", errors.Join(err, ctx.Err()))
	}
	if !c.answers.Scan() {
		return answer, fmt.Errorf("swarm ended: %w", errors.Join(c.answers.Err(), ctx.Err()))
	}
	if err := json.Unmarshal(c.answers.Bytes(), &answer); err != nil {
		return answer, fmt.Errorf("read swarm: %w", err)
	}
	if answer.Error != "" {
		return answer, fmt.Errorf("swarm: %s", answer.Error)
	}
	return answer, nil
}
