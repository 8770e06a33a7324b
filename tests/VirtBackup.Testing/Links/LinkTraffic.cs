namespace VirtBackup.Testing.Links;

/// <summary>What entered one direction of a link.</summary>
/// <param name="Packets">Those that were lost on the way, too; those that met a cut link, not.</param>
/// <param name="Bytes">Of these packets, with the headers of IP and TCP.</param>
/// <param name="Payload">What they carried for programs, TCP's repetitions included.</param>
/// <param name="Lost">Packets that were lost by chance.</param>
public readonly record struct LinkTraffic(long Packets, long Bytes, long Payload, long Lost)
{
    public static LinkTraffic operator +(LinkTraffic one, LinkTraffic other) => Add(one, other);

    public static LinkTraffic operator -(LinkTraffic now, LinkTraffic before) => Subtract(now, before);

    public static LinkTraffic Add(LinkTraffic one, LinkTraffic other) =>
        new(one.Packets + other.Packets, one.Bytes + other.Bytes, one.Payload + other.Payload, one.Lost + other.Lost);

    public static LinkTraffic Subtract(LinkTraffic now, LinkTraffic before) =>
        new(now.Packets - before.Packets, now.Bytes - before.Bytes, now.Payload - before.Payload, now.Lost - before.Lost);
}
