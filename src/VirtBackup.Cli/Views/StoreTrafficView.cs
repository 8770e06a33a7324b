using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>What the provider of a store was asked: by the controller since its start, or by this command.</summary>
internal sealed record StoreTrafficView(ulong Requests, ulong Writes, ulong Reads, ulong Lookups, ulong Lists, ulong Deletions, ulong BytesSent, ulong BytesReceived, ulong Lease)
{
    public static StoreTrafficView? Of(Core.StoreTraffic? traffic) => traffic is not { } asked ? null : new(
        (ulong)asked.Requests, (ulong)asked.Writes, (ulong)asked.Reads, (ulong)asked.Lookups, (ulong)asked.Lists, (ulong)asked.Deletions, (ulong)asked.BytesSent, (ulong)asked.BytesReceived,
        (ulong)asked.Lease);

    public static StoreTrafficView? Of(Protocol.Admin.V1.StoreTraffic? asked) => asked is null ? null : new(
        asked.Writes + asked.Reads + asked.Lookups + asked.Lists + asked.Deletions, asked.Writes, asked.Reads, asked.Lookups, asked.Lists, asked.Deletions,
        asked.BytesSent, asked.BytesReceived, asked.Lease);

    /// <summary>In one line.</summary>
    public string Describe() =>
        $"{Units.Count(Requests)} ({Units.Count(Writes)} writes, {Units.Count(Reads)} reads, {Units.Count(Lookups)} look-ups, {Units.Count(Lists)} lists, {Units.Count(Deletions)} deletions; {Units.Count(Lease)} of them for the lease), {Units.Bytes(BytesSent)} sent, {Units.Bytes(BytesReceived)} received";
}
