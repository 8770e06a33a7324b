namespace VirtBackup.Proofs.Fuzz;

/// <summary>A parser of bytes from outside.</summary>
/// <param name="Name">Also the name of its folder in the corpus.</param>
/// <param name="Parse">Parses, and writes again what it understood: what is accepted has one spelling. Null: there is no writer.</param>
/// <param name="Repair">Makes checksums right again in place, so that damage reaches the rules behind them.</param>
internal sealed record Target(string Name, Func<byte[], byte[]?> Parse, Func<byte[], byte[]>? Repair = null)
{
    /// <summary>Accepted bytes need not come out as they went in.</summary>
    public bool IsFree { get; init; }
}
