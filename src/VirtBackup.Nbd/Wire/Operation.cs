namespace VirtBackup.Nbd.Wire;

/// <summary>One request as a caller asks for it. Its length fits one request on the wire.</summary>
internal readonly record struct Operation(
    NbdCommand Command, long Offset, int Length, Memory<byte> Destination, ReadOnlyMemory<byte> Source, uint ContextId, List<NbdExtent>? Extents)
{
    public static Operation Read(long offset, Memory<byte> destination) =>
        new(NbdCommand.Read, offset, destination.Length, destination, default, 0, null);

    public static Operation Write(long offset, ReadOnlyMemory<byte> source) =>
        new(NbdCommand.Write, offset, source.Length, default, source, 0, null);

    public static Operation Range(NbdCommand command, long offset, int length) =>
        new(command, offset, length, default, default, 0, null);

    public static Operation BlockStatus(long offset, int length, uint contextId, List<NbdExtent> extents) =>
        new(NbdCommand.BlockStatus, offset, length, default, default, contextId, extents);
}
