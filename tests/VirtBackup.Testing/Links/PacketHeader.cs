using System.Buffers.Binary;

namespace VirtBackup.Testing.Links;

/// <summary>What stands before each packet of a TUN device (the kernel's virtio_net_hdr): whether it is many TCP segments in one.</summary>
internal static class PacketHeader
{
    public const int Bytes = 10;

    private const int SegmentBytesOffset = 4;
    private const int TcpProtocol = 6;
    private const int AddressedBytesMin = 20;

    /// <summary>What passes when it passes, each segment by itself.</summary>
    public static LinkTraffic TrafficOf(ReadOnlySpan<byte> framed)
    {
        var packet = framed[Bytes..];
        // IPv4 with TCP; all else carries nothing for programs.
        if (packet.Length < 2 * AddressedBytesMin || packet[0] >> 4 != 4 || packet[9] != TcpProtocol) return new LinkTraffic(1, packet.Length, 0, 0);
        var headers = (packet[0] & 15) * 4;
        if (packet.Length < headers + AddressedBytesMin) return new LinkTraffic(1, packet.Length, 0, 0);
        headers += (packet[headers + 12] >> 4) * 4;
        var payload = Math.Max(0, packet.Length - headers);
        var segmentBytes = framed[1] == 0 ? 0 : BinaryPrimitives.ReadUInt16LittleEndian(framed[SegmentBytesOffset..]);
        var segments = segmentBytes == 0 ? 1 : (payload + segmentBytes - 1) / segmentBytes;
        return new LinkTraffic(segments, payload + ((long)segments * headers), payload, 0);
    }
}
