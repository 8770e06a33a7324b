using System.Buffers;
using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>
/// Measures by how fast images get from their old place to the new one: reads parts that are spread over the old images, and writes
/// them to a nameless file on the new storage.
/// </summary>
internal static class MovePathSample
{
    private const int PieceBytes = 1 << 20;
    private const int BytesMax = 96 << 20;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(3);

    /// <returns>What was reached within some 3 seconds. A measurement that fails is none: the move itself says what is wrong.</returns>
    public static async ValueTask<MoveSample> MeasureAsync(IReadOnlyList<PlannedMove> moves, TimeProvider time, CancellationToken cancellationToken)
    {
        if (moves.Count == 0)
        {
            return default;
        }
        using var deadline = new CancellationTokenSource(Limit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        var buffer = ArrayPool<byte>.Shared.Rent(PieceBytes);
        long written = 0;
        var begun = time.GetTimestamp();
        try
        {
            await using var target = TargetSample.Create(TargetStorage.Of(Path.GetDirectoryName(moves[0].NewPath)!));
            begun = time.GetTimestamp();
            try
            {
                foreach (var move in moves)
                {
                    await foreach (var read in ReadAsync(move.OldPath, BytesMax / moves.Count, buffer, linked.Token))
                    {
                        await target.WriteAsync(written, buffer.AsMemory(0, read), linked.Token);
                        written += read;
                    }
                }
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                // What it reached until now tells as much.
            }
            await target.FlushAsync(cancellationToken);
        }
        catch (Exception failure) when (failure is FaultException or IOException or UnauthorizedAccessException)
        {
            return default;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
        return new MoveSample(written, time.GetElapsedTime(begun).TotalSeconds);
    }

    // How much of the buffer holds data, piece by piece.
    private static async IAsyncEnumerable<int> ReadAsync(string path, long most, byte[] buffer, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, FileOptions.Asynchronous);
        // A device has no length that the system would tell; its beginning serves.
        var length = Math.Max(RandomAccess.GetLength(file), PieceBytes);
        var pieces = (int)Math.Clamp(Math.Min(most, length) / PieceBytes, 1, BytesMax / PieceBytes);
        var stride = Math.Max(PieceBytes, length / pieces / PieceBytes * PieceBytes);
        for (var piece = 0; piece < pieces; piece++)
        {
            var read = await RandomAccess.ReadAsync(file, buffer.AsMemory(0, PieceBytes), piece * stride, cancellationToken);
            if (read == 0)
            {
                break;
            }
            // Holes are neither read nor written by a move.
            if (buffer.AsSpan(0, read).ContainsAnyExcept((byte)0))
            {
                yield return read;
            }
        }
    }
}
