// franz-go and sonic, as fast as we can make them: no copy of a value, fields that point into it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/bytedance/sonic"
	"github.com/twmb/franz-go/pkg/kgo"
)

type outcome struct {
	Timestamp string  `json:"timestamp"`
	OrgID     *uint64 `json:"org_id"`
	ProjectID *uint64 `json:"project_id"`
	Outcome   *uint8  `json:"outcome"`
	Reason    string  `json:"reason"`
	Category  *uint8  `json:"category"`
	Quantity  *uint64 `json:"quantity"`
}

type key struct {
	org, project      uint64
	bucket            int64
	reason            string
	category, outcome uint8
}

type cell struct{ quantity, events uint64 }

type cells map[key]*cell

// Number or zero is what a null and an absent field are.
func or[T any](given *T, otherwise T) T {
	if given == nil {
		return otherwise
	}
	return *given
}

func (all cells) count(value []byte, one *outcome) {
	*one = outcome{}
	if len(value) == 0 || sonic.ConfigFastest.UnmarshalFromString(unsafe.String(&value[0], len(value)), one) != nil {
		return
	}
	at, err := time.Parse(time.RFC3339Nano, one.Timestamp)
	if err != nil {
		return
	}
	found := key{
		or(one.OrgID, 0), or(one.ProjectID, 0), at.Unix() / 10 * 10, one.Reason, or(one.Category, 1), or(one.Outcome, 0),
	}
	there, known := all[found]
	if !known {
		found.reason = strings.Clone(found.reason)
		there = &cell{}
		all[found] = there
	}
	there.quantity += or(one.Quantity, 1)
	there.events++
}

// Events, quantity, cells, and a sum in which each cell has a weight of its own.
func (all cells) sums() [4]uint64 {
	sums := [4]uint64{0, 0, uint64(len(all)), 0}
	for k, c := range all {
		length := uint64(min(utf8.RuneCountInString(k.reason), 64))
		weight := k.org + 3*uint64(k.bucket/10) + 5*k.project + 7*uint64(k.category) + 11*uint64(k.outcome) + 13*length
		sums[0] += c.events
		sums[1] += c.quantity
		sums[3] += c.quantity * (weight % 1_000_003)
	}
	return sums
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	wanted := must(strconv.Atoi(os.Getenv("BENCH_RECORDS")))
	client := must(kgo.NewClient(
		kgo.SeedBrokers(os.Getenv("BENCH_BOOTSTRAP_SERVERS")),
		kgo.ConsumerGroup(os.Getenv("BENCH_GROUP")),
		kgo.ConsumeTopics(os.Getenv("BENCH_TOPIC")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
	))
	var began time.Time
	var cpu float64
	var one outcome
	all, taken := cells{}, 0
	for taken < wanted {
		fetched := client.PollFetches(context.Background())
		if err := fetched.Err0(); err != nil {
			panic(err)
		}
		if taken == 0 && fetched.NumRecords() > 0 {
			began, cpu = time.Now(), cpuSeconds()
		}
		fetched.EachPartition(func(partition kgo.FetchTopicPartition) {
			for _, record := range partition.Records {
				all.count(record.Value, &one)
			}
			taken += len(partition.Records)
		})
	}
	seconds, spent := time.Since(began).Seconds(), cpuSeconds()-cpu
	fmt.Println(string(must(json.Marshal(map[string]any{
		"records": taken, "seconds": seconds, "cpu_seconds": spent, "sums": all.sums(),
	}))))
}
