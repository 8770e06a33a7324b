using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.GuestImpact;

/// <summary>A load of 50 writes of 4 KiB a second in a guest, each on its disk before the next, and what it measures. One caller at a time.</summary>
/// <param name="execute">Runs a line of shell in the guest.</param>
/// <param name="query">Asks its QEMU.</param>
internal sealed class PacedLoad(Func<string, Task<GuestResult>> execute, Func<Task<JsonElement>> query)
{
    private (long At, long Writes, long Ns, long GuestWrites, long GuestMs) _from;

    /// <summary>Starts it; it goes on until the guest ends.</summary>
    public async Task StartAsync() =>
        // A pipe that nobody writes to is a clock without a process; the file system writes through to the disk.
        (await execute(
            "dd if=/dev/zero of=/data/load bs=1M count=64 2>/dev/null; sync; mount -o remount,sync /data; mkfifo /run/clock; "
            + "(exec 3<>/run/clock; while :; do printf '%4096s' x; read -t 0.018 tick <&3; done | dd of=/data/load bs=4k conv=notrunc) </dev/null >/dev/null 2>&1 &")).EnsureSuccess();

    public async Task BeginAsync() => _from = await ReadAsync();

    /// <summary>What the time since <see cref="BeginAsync"/> brought.</summary>
    public async Task<Reading> EndAsync()
    {
        var (from, to) = (_from, await ReadAsync());
        var (writes, guestWrites) = (Math.Max(1, to.Writes - from.Writes), Math.Max(1, to.GuestWrites - from.GuestWrites));
        return new Reading(
            (to.Writes - from.Writes) / Stopwatch.GetElapsedTime(from.At, to.At).TotalSeconds,
            (to.Ns - from.Ns) / (double)writes / 1e6, (to.GuestMs - from.GuestMs) / (double)guestWrites);
    }

    private async Task<(long At, long Writes, long Ns, long GuestWrites, long GuestMs)> ReadAsync()
    {
        // A guest that stands still is asked no more than once.
        var disk = await InGuestAsync().WaitAsync(TimeSpan.FromSeconds(60));
        var stats = (await query()).EnumerateArray().Select(entry => entry.GetProperty("stats")).ToList();
        long Sum(string name) => stats.Sum(entry => entry.GetProperty(name).GetInt64());
        return (Stopwatch.GetTimestamp(), Sum("wr_operations"), Sum("wr_total_time_ns") + Sum("flush_total_time_ns"), disk.Writes, disk.Ms);
    }

    // Linux Documentation/admin-guide/iostats: writes and their milliseconds, flushes and theirs.
    private async Task<(long Writes, long Ms)> InGuestAsync()
    {
        var fields = (await execute("cat /sys/class/block/$(basename $(findfs LABEL=vmdata))/stat")).EnsureSuccess()
            .Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(field => long.Parse(field, CultureInfo.InvariantCulture)).ToArray();
        return (fields[4], fields[7] + fields[16]);
    }
}
