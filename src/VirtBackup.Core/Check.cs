using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace VirtBackup.Core;

/// <summary>Assertions on our own logic, alive in Release: a broken invariant stops the operation before it can harm data.</summary>
public static class Check
{
    /// <exception cref="InvariantException">The condition is false.</exception>
    public static void That([DoesNotReturnIf(false)] bool condition, [CallerArgumentExpression(nameof(condition))] string? what = null)
    {
        if (!condition)
        {
            throw new InvariantException($"Invariant broken: {what}");
        }
    }
}

/// <summary>A defect in this program, never a user's mistake.</summary>
public sealed class InvariantException(string message) : Exception(message);
